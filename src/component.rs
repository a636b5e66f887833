//! The life of a component, and of a group of them.
//!
//! ```text
//! init     take what is needed, change nothing outside     in order
//! start    begin to work                                   in order
//! execute  work until told to stop                         in the component's own threads
//! finish   stop taking in, hand on what is left            in reverse order
//! exit     give everything back                            in reverse order
//! ```
//!
//! The order of a group is that of the data, backwards: who consumes starts first and finishes
//! last, so nothing that was read is dropped on the way.

use anyhow::{Context, Result};

/// See the module. A phase that a component does not need is left out.
pub trait Component {
    fn name(&self) -> &'static str;

    /// May fail: nothing has been started yet, and the components before are told to exit.
    fn init(&mut self) -> Result<()> {
        Ok(())
    }

    /// May fail: the components before finish and exit.
    fn start(&mut self) -> Result<()> {
        Ok(())
    }

    /// The component's share of the main thread, once all have started; most have none, since
    /// they work in threads of their own.
    fn execute(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once after a successful start; tries everything it can before it fails.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called once after init, whatever happened since.
    fn exit(&mut self) {}
}

/// Components in the order of their start.
#[derive(Default)]
pub struct Group {
    members: Vec<Box<dyn Component>>,
    inited: usize,
    started: usize,
}

impl Group {
    pub fn with(mut self, member: impl Component + 'static) -> Self {
        self.members.push(Box::new(member));
        self
    }
}

impl Component for Group {
    fn name(&self) -> &'static str {
        "group"
    }

    fn init(&mut self) -> Result<()> {
        for member in &mut self.members {
            self.inited += 1;
            member.init().with_context(|| format!("{} cannot begin", member.name()))?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.start().with_context(|| format!("{} cannot start", member.name()))?;
            self.started += 1;
        }
        Ok(())
    }

    fn execute(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.execute())
    }

    /// Every member is told, in reverse order; the first error is returned, the others logged.
    fn finish(&mut self) -> Result<()> {
        let mut first = None;
        for member in self.members[..self.started].iter_mut().rev() {
            if let Err(error) = member.finish() {
                log::error!("{}: {error:#}", member.name());
                first.get_or_insert(error);
            }
        }
        self.started = 0;
        first.map_or(Ok(()), Err)
    }

    fn exit(&mut self) {
        for member in self.members[..self.inited].iter_mut().rev() {
            member.exit();
        }
        self.inited = 0;
    }
}

/// A whole life. What was begun is given back whichever phase fails.
pub fn live(component: &mut dyn Component) -> Result<()> {
    let worked =
        component.init().and_then(|()| component.start()).and_then(|()| component.execute());
    let finished = component.finish();
    component.exit();
    worked.and(finished)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use anyhow::bail;

    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    struct Part {
        name: &'static str,
        fails: &'static str,
        log: Log,
    }

    impl Part {
        fn phase(&self, phase: &str) -> Result<()> {
            self.log.lock().unwrap().push(format!("{phase} {}", self.name));
            if self.fails == phase {
                bail!("{phase} of {}", self.name);
            }
            Ok(())
        }
    }

    impl Component for Part {
        fn name(&self) -> &'static str {
            self.name
        }
        fn init(&mut self) -> Result<()> {
            self.phase("init")
        }
        fn start(&mut self) -> Result<()> {
            self.phase("start")
        }
        fn execute(&mut self) -> Result<()> {
            self.phase("execute")
        }
        fn finish(&mut self) -> Result<()> {
            self.phase("finish")
        }
        fn exit(&mut self) {
            let _ = self.phase("exit");
        }
    }

    fn life(fails: &'static str) -> (bool, String) {
        let log = Log::default();
        let part = |name, fails| Part { name, fails, log: Arc::clone(&log) };
        let mut group = Group::default().with(part("a", "")).with(part("b", fails));
        let lived = live(&mut group).is_ok();
        let log = log.lock().unwrap().join(", ");
        (lived, log)
    }

    #[test]
    fn a_life_goes_forth_and_back() {
        let whole = "init a, init b, start a, start b, execute a, execute b, \
                     finish b, finish a, exit b, exit a";
        assert_eq!(life(""), (true, whole.to_owned()));
    }

    #[test]
    fn a_failure_gives_back_what_was_begun() {
        assert_eq!(life("init"), (false, "init a, init b, exit b, exit a".to_owned()));
        let started = "init a, init b, start a, start b, finish a, exit b, exit a";
        assert_eq!(life("start"), (false, started.to_owned()));
        let executed = "init a, init b, start a, start b, execute a, execute b, \
                        finish b, finish a, exit b, exit a";
        assert_eq!(life("execute"), (false, executed.to_owned()));
    }
}
