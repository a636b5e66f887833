//! Which names DNS answers gave to an address, and which a client asked for in a conversation.
//!
//! A name here is a claim by whoever answered, not a fact about the address: anybody can give
//! his own name to an address of somebody else. What a client says (TLS, HTTP) is a claim too, about
//! his own conversation and no other: it never names the address for others, nor pushes out what
//! DNS said.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::event::Flow;
use crate::state::recent::Recent;

/// Names kept of one address. Addresses of content networks carry thousands; the newest are
/// those that the connection at hand was made for.
pub const NAMES_MAX: usize = 8;

/// A TTL of 0 still names the connection that the answer was asked for.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// A connection starts after the answer was cached: by the resolver library, a local daemon
/// (which hands out the rest of the TTL) or the program itself (runtimes keep addresses for
/// about a minute whatever the TTL says, and pools reconnect to an address they know).
const GRACE: Duration = Duration::from_secs(5 * 60);

/// A bounded map from addresses to names, each with its end.
///
/// Time is that of the facts (wall clock, from the kernel's), not of the reading: a replayed
/// epoch gives the same names. Learning costs a logarithm of the capacity for each address;
/// what has ended is dropped on the way, so that nothing has to sweep the map.
#[derive(Debug)]
pub struct Names {
    capacity: usize,
    known: HashMap<IpAddr, Known>,
    /// The same addresses by the end of their last name: soonest first.
    ends: BTreeSet<(SystemTime, IpAddr)>,
    evicted: u64,
    /// What clients asked for.
    asked: Recent<Ends, Asked>,
}

/// A conversation over TCP: local and remote, network namespace.
type Ends = (IpAddr, u16, IpAddr, u16, u64);

#[derive(Debug)]
struct Asked {
    names: Vec<Arc<str>>,
    at: SystemTime,
}

fn ends(flow: &Flow) -> Ends {
    (flow.local, flow.local_port, flow.remote, flow.remote_port, flow.netns)
}

#[derive(Debug)]
struct Known {
    /// Newest first, at most [`NAMES_MAX`], each once.
    names: Vec<(Arc<str>, SystemTime)>,
    /// The end of the one that lasts longest: this address's place in [`Names::ends`].
    end: SystemTime,
}

impl Names {
    /// Keeps at most `capacity` addresses (at least 1). Each costs about 150 bytes and 24 for
    /// each of its names; the texts are shared with the answers.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            known: HashMap::new(),
            ends: BTreeSet::new(),
            evicted: 0,
            asked: Recent::new(capacity),
        }
    }

    /// Takes one answer: the question and its CNAME chain, and the addresses at its end with
    /// their TTL in seconds (kept between a minute and a day, and five minutes longer).
    ///
    /// Of a chain longer than [`NAMES_MAX`] the first names are kept: the question is what the
    /// program asked for. When full, the address that ends soonest goes.
    pub fn learn(&mut self, names: &[Arc<str>], addresses: &[(IpAddr, u32)], now: SystemTime) {
        if names.is_empty() {
            return;
        }
        self.drop_ended(now);
        for &(address, ttl) in addresses {
            let lasts = Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST) + GRACE;
            // Times that no clock shows may overflow; they come from the kernel, so do not trust.
            let Some(end) = now.checked_add(lasts) else { continue };
            self.learn_address(names, address, now, end);
        }
    }

    fn learn_address(
        &mut self,
        names: &[Arc<str>],
        address: IpAddr,
        now: SystemTime,
        end: SystemTime,
    ) {
        let known = self.known.entry(address).or_insert(Known { names: Vec::new(), end });
        self.ends.remove(&(known.end, address));
        known.names.retain(|(_, end)| *end > now);
        for name in names.iter().take(NAMES_MAX).rev() {
            let mut lasts = end;
            if let Some(at) = known.names.iter().position(|(known, _)| known == name) {
                // A shorter TTL does not take back a longer one: a cache may still hold it.
                lasts = lasts.max(known.names.remove(at).1);
            }
            known.names.insert(0, (Arc::clone(name), lasts));
        }
        known.names.truncate(NAMES_MAX);
        known.end = known.names.iter().map(|(_, end)| *end).max().unwrap_or(end);
        self.ends.insert((known.end, address));
        if self.known.len() > self.capacity {
            self.evict();
        }
    }

    /// Names of an address that last at that time, newest first, at most [`NAMES_MAX`].
    /// IPv4-mapped IPv6 addresses are looked up as IPv4, as answers are given.
    pub fn of(&self, address: &IpAddr, at: SystemTime) -> Vec<Arc<str>> {
        let Some(known) = self.known.get(&address.to_canonical()) else { return Vec::new() };
        let lasting = known.names.iter().filter(|(_, end)| *end > at);
        lasting.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Takes what the client of a conversation asked for.
    pub fn learn_asked(&mut self, flow: &Flow, names: &[Arc<str>], at: SystemTime) {
        let names = names.iter().take(NAMES_MAX).cloned().collect();
        self.asked.insert(ends(flow), Asked { names, at });
    }

    /// Names of a conversation's other end: what its client asked for, then those of the address.
    /// `began`: it had its handshake then, so what was asked before was on another connection
    /// with the same ports.
    pub fn of_flow(&self, flow: &Flow, began: Option<SystemTime>, at: SystemTime) -> Vec<Arc<str>> {
        let resolved = self.of(&flow.remote, at);
        let asked = (flow.protocol == 6).then(|| self.asked.peek(&ends(flow))).flatten();
        let Some(asked) = asked.filter(|asked| began.is_none_or(|began| asked.at >= began)) else {
            return resolved;
        };
        let mut names = asked.names.clone();
        names.extend(resolved.into_iter().filter(|name| !asked.names.contains(name)));
        names
    }

    /// Addresses held; some may have ended.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Addresses that had to go before their end, since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn drop_ended(&mut self, now: SystemTime) {
        while let Some((end, address)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, address));
            self.known.remove(&address);
        }
    }

    fn evict(&mut self) {
        if let Some((_, address)) = self.ends.pop_first() {
            self.known.remove(&address);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 24 * 60 * 60;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn ip(last: u32) -> IpAddr {
        IpAddr::V4(last.into())
    }

    fn arcs(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn texts(names: &Names, address: u32, seconds: u64) -> Vec<String> {
        names.of(&ip(address), at(seconds)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_question_comes_first_and_newer_answers_before_older() {
        let mut names = Names::new(10);
        names.learn(&arcs(&["a", "cdn"]), &[(ip(1), 600), (ip(2), 600)], at(0));
        names.learn(&arcs(&["b", "cdn"]), &[(ip(1), 600)], at(1));
        assert_eq!(texts(&names, 1, 2), ["b", "cdn", "a"]);
        assert_eq!(texts(&names, 2, 2), ["a", "cdn"]);
        assert_eq!(texts(&names, 3, 2), [""; 0]);
    }

    #[test]
    fn names_end_with_their_ttl_and_grace() {
        let mut names = Names::new(10);
        names.learn(&arcs(&["short"]), &[(ip(1), 0)], at(0));
        names.learn(&arcs(&["middle"]), &[(ip(1), 1000)], at(0));
        names.learn(&arcs(&["long"]), &[(ip(1), u32::MAX)], at(0));
        assert_eq!(texts(&names, 1, 359), ["long", "middle", "short"]);
        assert_eq!(texts(&names, 1, 360), ["long", "middle"]);
        assert_eq!(texts(&names, 1, 1300), ["long"]);
        assert_eq!(texts(&names, 1, DAY + 299), ["long"]);
        assert_eq!(texts(&names, 1, DAY + 300), [""; 0]);
    }

    #[test]
    fn a_shorter_ttl_takes_nothing_back() {
        let mut names = Names::new(10);
        names.learn(&arcs(&["a"]), &[(ip(1), 1000)], at(0));
        names.learn(&arcs(&["a"]), &[(ip(1), 0)], at(1));
        assert_eq!(texts(&names, 1, 1299), ["a"]);
    }

    #[test]
    fn what_has_ended_is_dropped_on_the_way() {
        let mut names = Names::new(100);
        for last in 0..50 {
            names.learn(&arcs(&["a"]), &[(ip(last), 60)], at(0));
        }
        assert_eq!(names.len(), 50);
        names.learn(&arcs(&["b"]), &[(ip(99), 60)], at(361));
        assert_eq!((names.len(), names.evicted()), (1, 0));
    }

    #[test]
    fn the_soonest_to_end_goes_when_full() {
        let mut names = Names::new(2);
        names.learn(&arcs(&["a"]), &[(ip(1), 900)], at(0));
        names.learn(&arcs(&["b"]), &[(ip(2), 100)], at(0));
        names.learn(&arcs(&["c"]), &[(ip(3), 500)], at(0));
        assert_eq!(texts(&names, 1, 1), ["a"]);
        assert_eq!(texts(&names, 2, 1), [""; 0]);
        assert_eq!(texts(&names, 3, 1), ["c"]);
        assert_eq!(names.evicted(), 1);
    }

    #[test]
    fn long_chains_keep_their_head() {
        let chain: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
        let chain: Vec<Arc<str>> = chain.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut names = Names::new(2);
        names.learn(&chain, &[(ip(1), 60)], at(0));
        assert_eq!(texts(&names, 1, 1), ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"]);
    }

    #[test]
    fn mapped_addresses_are_found_and_nothing_is_learned_from_nothing() {
        let mut names = Names::new(2);
        names.learn(&[], &[(ip(1), 60)], at(0));
        names.learn(&arcs(&["a"]), &[], at(0));
        assert!(names.is_empty());
        names.learn(&arcs(&["a"]), &[("1.2.3.4".parse().unwrap(), 60)], at(0));
        assert_eq!(names.of(&"::ffff:1.2.3.4".parse().unwrap(), at(1)).len(), 1);
    }

    proptest! {
        #[test]
        fn both_orders_hold_the_same(
            answers in prop::collection::vec((0u32..20, 0u32..5, 0u32..100_000, 0u64..1000), 0..200),
        ) {
            let mut names = Names::new(8);
            let mut clock = 0;
            for (address, name, ttl, passed) in answers {
                clock += passed;
                names.learn(&[name.to_string().into()], &[(ip(address), ttl)], at(clock));
                prop_assert!(names.known.len() <= 8);
                prop_assert_eq!(names.known.len(), names.ends.len());
                for (end, address) in &names.ends {
                    prop_assert_eq!(names.known[address].end, *end);
                    prop_assert!(*end > at(clock));
                }
                prop_assert!(names.of(&ip(address), at(clock)).len() <= NAMES_MAX);
            }
        }
    }
}
