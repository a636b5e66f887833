//! Acts of a process of its own: forked from the test, so that nothing but the act is in it.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A process that acts, and the two ends of what it is told by and tells.
pub struct Actor {
    pub pid: u32,
    tell: PipeWriter,
    heard: PipeReader,
    waited: bool,
}

/// The actor's side: waits to be told, and answers.
pub struct Stage {
    told: PipeReader,
    say: PipeWriter,
}

impl Stage {
    /// Blocks until the test says go; false when the test is gone.
    pub fn wait(&mut self) -> bool {
        self.told.read_exact(&mut [0]).is_ok()
    }

    pub fn say(&mut self, number: u64) {
        self.say.write_all(&number.to_ne_bytes()).unwrap();
    }
}

impl Actor {
    /// Forks; the child does `play` and ends without running anything of the test's.
    pub fn start(play: impl FnOnce(&mut Stage)) -> Self {
        let (told, tell) = pipe().unwrap();
        let (heard, say) = pipe().unwrap();
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "cannot fork");
        if pid == 0 {
            drop((tell, heard));
            // Not into the test's captured output, which ends with the fork.
            std::panic::set_hook(Box::new(|panic| {
                let _ = writeln!(std::io::stderr(), "an actor failed: {panic}");
            }));
            let mut stage = Stage { told, say };
            let played = catch_unwind(AssertUnwindSafe(|| play(&mut stage)));
            unsafe { libc::_exit(if played.is_ok() { 0 } else { 101 }) };
        }
        Self { pid: pid as u32, tell, heard, waited: false }
    }

    pub fn go(&mut self) {
        self.tell.write_all(&[1]).unwrap();
    }

    /// The next number that the actor says.
    pub fn hear(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.heard.read_exact(&mut bytes).expect("the actor said nothing");
        u64::from_ne_bytes(bytes)
    }

    pub fn runs(&self) -> bool {
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        unsafe {
            libc::waitid(libc::P_PID, self.pid, &mut info, options) == 0 && info.si_pid() == 0
        }
    }

    /// Until it has ended, which must be well.
    pub fn wait(mut self) -> u32 {
        self.waited = true;
        let mut status = 0;
        assert_eq!(unsafe { libc::waitpid(self.pid as i32, &mut status, 0) }, self.pid as i32);
        assert_eq!(status, 0, "the actor failed");
        self.pid
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if !self.waited {
            unsafe {
                libc::kill(self.pid as i32, libc::SIGKILL);
                libc::waitpid(self.pid as i32, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A whole act in a child; its pid.
pub fn act(play: impl FnOnce()) -> u32 {
    Actor::start(|_| play()).wait()
}
