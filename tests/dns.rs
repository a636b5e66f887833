//! DNS answers from honest and from hostile servers, made byte by byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its packet has failed")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use raqib::dns::{Answer, DnsError, NameError, Reassembler, Record, Response, parse_response};

/// A message, written as RFC 1035 says. Names take `.` as the separator; `@12` at the end of a
/// name is a compression pointer to offset 12.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(flags: u16, questions: u16, answers: u16) -> Self {
        let mut bytes = Vec::new();
        for word in [0x1234, flags, questions, answers, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        Self { bytes }
    }

    fn asking(name: &str, answers: u16) -> Self {
        Self::new(0x8180, 1, answers).name(name).words(&[1, 1])
    }

    fn name(mut self, name: &str) -> Self {
        self.bytes.extend(wire(name));
        self
    }

    fn words(mut self, words: &[u16]) -> Self {
        self.bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self
    }

    fn record(self, name: &str, kind: u16, ttl: u32, content: &[u8]) -> Self {
        self.raw_record(&wire(name), kind, ttl, content)
    }

    fn raw_record(mut self, name: &[u8], kind: u16, ttl: u32, content: &[u8]) -> Self {
        self.bytes.extend(name);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(1u16.to_be_bytes());
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        self.bytes.extend(content);
        self
    }

    fn a(self, name: &str, ttl: u32, address: [u8; 4]) -> Self {
        self.record(name, 1, ttl, &address)
    }

    fn cname(self, name: &str, target: &str) -> Self {
        self.record(name, 5, 300, &wire(target))
    }

    fn parse(&self) -> Response {
        parse_response(&self.bytes).unwrap()
    }
}

fn wire(name: &str) -> Vec<u8> {
    let (labels, pointer) = match name.split_once('@') {
        Some((labels, offset)) => (labels, Some(offset.parse::<u16>().unwrap())),
        None => (name, None),
    };
    let mut bytes = Vec::new();
    for label in labels.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    match pointer {
        Some(offset) => bytes.extend((0xc000 | offset).to_be_bytes()),
        None => bytes.push(0),
    }
    bytes
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_answer_as_resolvers_send_it() {
    let message = Message::asking("WWW.Example.com", 3)
        .cname("@12", "edge.cdn.example@24")
        .a("edge.cdn.example@24", 60, [192, 0, 2, 7])
        .record("edge.cdn.example@24", 28, 61, &Ipv6Addr::LOCALHOST.octets());
    let response = message.parse();
    assert_eq!(response.id, 0x1234);
    assert_eq!(response.question.as_deref(), Some("www.example.com"));
    assert_eq!((response.qtype, response.rcode), (1, 0));
    assert!(!response.truncated && !response.cut && !response.malformed);
    assert_eq!(response.names(), ["www.example.com", "edge.cdn.example.com"]);
    assert_eq!(response.addresses(), [(ip("192.0.2.7"), 60), (ip("::1"), 61)]);
}

#[test]
fn an_answer_byte_by_byte() {
    // As a resolver answers `dig example.org`: compressed owner, EDNS in the additional section.
    let bytes =
        b"\xab\xcd\x81\x80\x00\x01\x00\x01\x00\x00\x00\x01\x07example\x03org\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\x5d\xb8\xd8\x22\
        \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    let response = parse_response(bytes).unwrap();
    assert_eq!(response.names(), ["example.org"]);
    assert_eq!(response.addresses(), [(ip("93.184.216.34"), 3600)]);
}

#[test]
fn only_links_from_the_question_count() {
    let response = Message::asking("a.test", 6)
        .cname("bank.test", "evil.test")
        .a("bank.test", 1, [10, 0, 0, 1])
        .a("evil.test", 1, [10, 0, 0, 2])
        // The order in the message does not matter, as it does not to some resolvers.
        .a("c.test", 1, [10, 0, 0, 3])
        .cname("b.test", "c.test")
        .cname("a.test", "b.test")
        .parse();
    assert_eq!(response.names(), ["a.test", "b.test", "c.test"]);
    assert_eq!(response.addresses(), [(ip("10.0.0.3"), 1)]);
    assert_eq!(response.answers.len(), 6);
}

#[test]
fn a_circle_of_cnames_ends() {
    let response = Message::asking("a.test", 4)
        .cname("a.test", "b.test")
        .cname("b.test", "a.test")
        .cname("b.test", "b.test")
        .a("b.test", 5, [10, 0, 0, 1])
        .parse();
    assert_eq!(response.names(), ["a.test", "b.test"]);
    assert_eq!(response.addresses(), [(ip("10.0.0.1"), 5)]);
}

#[test]
fn bytes_that_could_pass_for_a_separator_are_escaped() {
    let name = [&b"\x06ev.il\x1b"[..], b"\x04\\_-A", b"\x02\xff\0", b"\0"].concat();
    let mut message = Message::new(0x8180, 1, 1);
    message.bytes.extend(&name);
    let response = message.words(&[1, 1]).raw_record(&name, 1, 9, &[10, 0, 0, 1]).parse();
    assert_eq!(response.question.as_deref(), Some("ev\\046il\\027.\\092_-a.\\255\\000"));
    assert_eq!(response.addresses(), [(ip("10.0.0.1"), 9)]);
}

#[test]
fn the_root_has_a_name() {
    let response = Message::asking("", 1).record("", 2, 1, &wire("a.root-servers.net")).parse();
    assert_eq!(response.names(), ["."]);
    assert_eq!(response.answers, [Answer { name: ".".into(), ttl: 1, record: Record::Other(2) }]);
}

#[test]
fn mapped_addresses_are_ipv4_and_each_is_given_once() {
    let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
    let response = Message::asking("a.test", 2)
        .record("@12", 28, 7, &mapped.octets())
        .a("@12", 8, [192, 0, 2, 1])
        .parse();
    assert_eq!(response.answers[0].record, Record::Aaaa(mapped));
    assert_eq!(response.addresses(), [(ip("192.0.2.1"), 7)]);
}

#[test]
fn times_to_live_at_both_ends() {
    let ttls = [0, 1, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX];
    let mut message = Message::asking("a.test", 5);
    for (ttl, last) in ttls.into_iter().zip(1..) {
        message = message.a("@12", ttl, [10, 0, 0, last]);
    }
    let read: Vec<u32> = message.parse().addresses().iter().map(|(_, ttl)| *ttl).collect();
    assert_eq!(read, [0, 1, i32::MAX as u32, 0, 0]);
}

#[test]
fn the_name_of_255_bytes_is_read_and_the_next_one_refused() {
    let label = "x".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
    assert_eq!(wire(&longest).len(), 255);
    let response = Message::asking(&longest, 1).a("@12", 1, [10, 0, 0, 1]).parse();
    assert_eq!(response.names(), [longest.as_str()]);
    assert_eq!(response.addresses().len(), 1);

    // One byte more, spelled out and by a pointer: the record is left out, the next one read.
    let response = Message::asking(&longest, 3)
        .a(&format!("{longest}y"), 1, [10, 0, 0, 1])
        .a("y@12", 1, [10, 0, 0, 2])
        .a("@12", 1, [10, 0, 0, 3])
        .parse();
    assert!(response.malformed && !response.cut);
    assert_eq!(response.addresses(), [(ip("10.0.0.3"), 1)]);

    let question = Message::asking(&format!("{longest}y"), 0);
    assert_eq!(parse_response(&question.bytes), Err(DnsError::Question(NameError::Long)));
}

#[test]
fn pointers_that_do_not_lead_back_cost_one_record() {
    // The first record starts at 24: 12 (header) + 8 ("a.test") + 4.
    let own_offset = Message::asking("a.test", 0).bytes.len();
    assert_eq!(own_offset, 24);
    for name in ["@24", "@25", "x@24", "x@26", "@4000", "@16383", "x@40"] {
        let message =
            Message::asking("a.test", 2).a(name, 1, [10, 0, 0, 1]).a("@12", 1, [10, 0, 0, 2]);
        let response = message.parse();
        assert!(response.malformed, "{name}");
        assert_eq!(response.addresses(), [(ip("10.0.0.2"), 1)], "{name}");
    }
    let looped = Message::new(0x8180, 1, 0).name("@12").words(&[1, 1]);
    assert_eq!(parse_response(&looped.bytes), Err(DnsError::Question(NameError::Pointer)));
}

#[test]
fn a_pointer_to_bytes_that_run_off_the_end_is_not_a_cut() {
    // Offset 20 is the question's type; 0x3f is a label of 63 bytes that the message has not.
    let message = Message::new(0x8180, 1, 2)
        .name("a.test")
        .words(&[0x3f, 1])
        .a("@21", 1, [10, 0, 0, 1])
        .a("@12", 1, [10, 0, 0, 2]);
    let response = message.parse();
    assert!(response.malformed && !response.cut);
    assert_eq!(response.addresses(), [(ip("10.0.0.2"), 1)]);
}

#[test]
fn chains_of_pointers_are_followed_128_times() {
    // A record whose content is a row of pointers, each to the one before it, the first to the
    // question's name.
    let start = Message::asking("a.test", 0).bytes.len() + 11;
    let mut row = wire("@12");
    for step in 0..200 {
        row.extend(wire(&format!("@{}", start + 2 * step)));
    }
    let ask = |jumps: usize| {
        Message::asking("a.test", 2)
            .record("", 999, 1, &row)
            .a(&format!("@{}", start + 2 * (jumps - 2)), 1, [10, 0, 0, 1])
            .parse()
    };
    assert_eq!(ask(128).addresses(), [(ip("10.0.0.1"), 1)]);
    assert!(!ask(128).malformed);
    assert_eq!(ask(129).addresses(), []);
    assert!(ask(129).malformed);
}

#[test]
fn content_of_the_wrong_size_costs_one_record() {
    let response = Message::asking("a.test", 6)
        .record("@12", 1, 1, &[10, 0, 0])
        .record("@12", 28, 1, &[0; 17])
        .record("@12", 5, 1, b"")
        .record("@12", 5, 1, b"\x01b\0junk")
        .record("@12", 5, 1, b"\x05b")
        .a("@12", 1, [10, 0, 0, 9])
        .parse();
    assert!(response.malformed && !response.cut);
    assert_eq!(response.names(), ["a.test"]);
    assert_eq!(response.addresses(), [(ip("10.0.0.9"), 1)]);
}

#[test]
fn an_unknown_label_type_ends_the_message() {
    for kind in [0x40, 0x80] {
        let response = Message::asking("a.test", 3)
            .a("@12", 1, [10, 0, 0, 1])
            .raw_record(&[kind], 1, 1, &[10, 0, 0, 2])
            .a("@12", 1, [10, 0, 0, 3])
            .parse();
        assert!(response.malformed && !response.cut);
        assert_eq!(response.addresses(), [(ip("10.0.0.1"), 1)]);
    }
}

#[test]
fn other_types_and_classes_are_named_and_edns_is_left_out() {
    let mut message = Message::asking("a.test", 3)
        .record("", 41, 0, b"\0\x0a\0\x02ab")
        .record("@12", 65, 30, b"\0\x01\0")
        .a("@12", 30, [10, 0, 0, 1]);
    let class = message.bytes.len() - 4 - 2 - 4 - 1;
    message.bytes[class] = 3; // CHAOS
    let response = message.parse();
    let kinds: Vec<_> = response.answers.iter().map(|answer| &answer.record).collect();
    assert_eq!(kinds, [&Record::Other(65), &Record::Other(1)]);
    assert_eq!(response.addresses(), []);
    assert!(!response.malformed);
}

#[test]
fn what_is_no_answer_is_refused() {
    assert_eq!(parse_response(b""), Err(DnsError::Short));
    assert_eq!(parse_response(&[0x80; 11]), Err(DnsError::Short));
    let query = Message::new(0x0100, 1, 0).name("a.test").words(&[1, 1]);
    assert_eq!(parse_response(&query.bytes), Err(DnsError::NotAResponse));
    assert_eq!(parse_response(&Message::new(0xa800, 0, 0).bytes), Err(DnsError::Opcode(5)));
    let empty = Message::new(0x8183, 0, 0).parse();
    assert_eq!((empty.rcode, empty.question.as_deref(), empty.qtype), (3, None, 0));
    assert_eq!(empty.names(), [""; 0]);
}

#[test]
fn flags_are_told() {
    let response = Message::new(0x8383, 1, 0).name("gone.test").words(&[28, 1]).parse();
    assert!(response.truncated && !response.cut);
    assert_eq!((response.rcode, response.qtype), (3, 28));
}

#[test]
fn only_the_first_question_is_asked() {
    let response = Message::new(0x8180, 2, 2)
        .name("a.test")
        .words(&[1, 1])
        .name("b.test")
        .words(&[28, 1])
        .a("b.test", 1, [10, 0, 0, 2])
        .a("a.test", 1, [10, 0, 0, 1])
        .parse();
    assert_eq!(response.names(), ["a.test"]);
    assert_eq!(response.addresses(), [(ip("10.0.0.1"), 1)]);
}

#[test]
fn ten_thousand_answers_are_looked_at_up_to_the_limit() {
    let mut message = Message::asking("a.test", 10_000);
    for n in 0..10_000u32 {
        message = message.a("@12", n, (n + 1).to_be_bytes());
    }
    let started = Instant::now();
    let response = message.parse();
    assert_eq!(response.addresses().len(), 4095);
    assert!(response.cut);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_dearest_message_is_bounded() {
    // 4,000 links, each name as long as it may be: quadratic work would show.
    let label = "x".repeat(63);
    let tail = format!("{label}.{label}.{}", "x".repeat(50));
    let mut message = Message::asking(&format!("0.{tail}"), 4000);
    for n in 0..4000 {
        message = message.cname(&format!("{n}@14"), &format!("{}@14", n + 1));
    }
    let started = Instant::now();
    assert_eq!(message.parse().names().len(), 4001);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn every_cut_gives_what_was_complete() {
    let message = Message::asking("www.example.com", 3)
        .cname("@12", "edge.example.com")
        .a("edge.example.com", 60, [192, 0, 2, 7])
        .a("edge.example.com", 60, [192, 0, 2, 8]);
    let whole = message.parse();
    let mut complete = 0;
    for end in 0..message.bytes.len() {
        match parse_response(&message.bytes[..end]) {
            Err(why) => {
                assert!(end < 29, "{end}: {why}");
                assert!(matches!(why, DnsError::Short | DnsError::Question(NameError::Cut)));
            }
            Ok(response) => {
                assert!(response.cut && !response.malformed, "{end}");
                assert!(response.answers.len() >= complete);
                complete = response.answers.len();
                assert_eq!(response.answers, whole.answers[..complete]);
            }
        }
    }
    assert_eq!(complete, 2);
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for message in messages {
        stream.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        stream.extend(message);
    }
    stream
}

#[test]
fn segments_become_messages() {
    let messages = [b"first".to_vec(), b"".to_vec(), b"second".to_vec(), vec![7; 65_535]];
    let stream = framed(&messages);
    let mut tcp = Reassembler::after_syn(u32::MAX - 2);
    let mut seq = u32::MAX - 1;
    let mut given = Vec::new();
    for part in stream.chunks(1460) {
        given.extend(tcp.push(seq, part));
        given.extend(tcp.push(seq, part)); // sent again
        seq = seq.wrapping_add(part.len() as u32);
    }
    assert_eq!(given, [messages[0].clone(), messages[2].clone(), messages[3].clone()]);
    assert!(!tcp.gave_up());
}

#[test]
fn without_a_syn_the_first_segment_may_come_late() {
    let stream = framed(&[b"first".to_vec(), b"second".to_vec()]);
    let mut tcp = Reassembler::new();
    assert_eq!(tcp.push(100, &stream[..1]), [b""; 0]);
    let mut tcp_late = Reassembler::new();
    assert_eq!(tcp_late.push(104, &stream[4..6]), [b""; 0]);
    assert_eq!(tcp_late.push(106, &stream[6..]), [b""; 0]);
    assert_eq!(tcp_late.push(100, &stream[..4]), [&b"first"[..], b"second"]);
    // Sent again while the start is still a guess: it is not earlier.
    assert_eq!(tcp.push(101, &stream[1..3]), [b""; 0]);
    assert_eq!(tcp.push(102, &stream[2..3]), [b""; 0]);
    assert_eq!(tcp.push(101, &stream[1..]), [&b"first"[..], b"second"]);
}

#[test]
fn bytes_that_came_first_stand() {
    let mut tcp = Reassembler::after_syn(0);
    assert_eq!(tcp.push(4, b"b"), [b""; 0]);
    assert_eq!(tcp.push(1, b"\0\x03aXc"), [b"abc"]);
}

#[test]
fn what_is_too_much_is_given_up() {
    let mut tcp = Reassembler::after_syn(0);
    for n in 0..60 {
        assert_eq!(tcp.push(3 + n * 1400, &[0; 1400]), [b""; 0]);
    }
    assert!(tcp.gave_up());
    assert_eq!(tcp.push(1, b"\0\x01a"), [b""; 0]);

    let mut tcp = Reassembler::after_syn(0);
    for n in 0..2000 {
        tcp.push(3 + n * 2, b"x");
    }
    assert!(tcp.gave_up());
}

#[test]
fn a_segment_out_of_every_window_does_no_harm_and_a_hole_does() {
    let mut tcp = Reassembler::after_syn(0);
    assert_eq!(tcp.push(1_000_000, &[0; 1000]), [b""; 0]);
    assert_eq!(tcp.push(0x9000_0000, &[0; 1000]), [b""; 0]);
    assert_eq!(tcp.push(1, b"\0\x01a"), [b"a"]);
    for n in 0..100 {
        tcp.push(1_000_000 + n * 1000, &[0; 1000]);
    }
    assert!(tcp.gave_up());
}

proptest! {
    #[test]
    fn garbage_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(response) = parse_response(&bytes) {
            response.names();
            response.addresses();
        }
    }

    /// Garbage behind a header that promises answers gets further in.
    #[test]
    fn garbage_in_the_answers_is_read_without_panic(
        flags in any::<u16>(),
        answers in any::<u16>(),
        bytes in prop::collection::vec(
            prop_oneof![Just(0u8), Just(0xc0), Just(12), Just(1), Just(5), 0u8..64, any::<u8>()],
            0..400,
        ),
    ) {
        let mut message = Message::new((flags | 0x8000) & !0x7800, 1, answers).name("a.b").words(&[1, 1]);
        message.bytes.extend(bytes);
        if let Ok(response) = parse_response(&message.bytes) {
            for name in response.names() {
                prop_assert!(name.len() <= 4 * 255);
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
            }
            response.addresses();
        }
    }

    #[test]
    fn a_changed_byte_is_read_without_panic(at in 0usize..200, byte in any::<u8>()) {
        let mut message = Message::asking("www.example.com", 3)
            .cname("@12", "edge@16")
            .a("edge@16", 60, [192, 0, 2, 7])
            .a("edge@16", 60, [192, 0, 2, 8]);
        let at = at % message.bytes.len();
        message.bytes[at] = byte;
        if let Ok(response) = parse_response(&message.bytes) {
            response.addresses();
        }
    }

    #[test]
    fn names_survive(labels in prop::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
        let name = labels.join(".");
        let response = Message::asking(&name.to_uppercase(), 1).a("@12", 1, [1, 2, 3, 4]).parse();
        prop_assert_eq!(response.names(), [name]);
        prop_assert_eq!(response.addresses().len(), 1);
    }

    #[test]
    fn segments_in_any_order_with_overlaps(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1usize..500), 0..60),
        order in any::<u64>(),
        isn in any::<u32>(),
        syn in any::<bool>(),
    ) {
        let stream = framed(&messages);
        // Every byte once, in small parts, and random parts besides.
        let mut parts: Vec<(usize, usize)> =
            (0..stream.len()).step_by(97).map(|at| (at, stream.len().min(at + 97))).collect();
        parts.extend(cuts.iter().map(|(at, len)| {
            let at = at.index(stream.len());
            (at, stream.len().min(at + len))
        }));
        let mut random = order | 1;
        for n in (1..parts.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            parts.swap(n, (random >> 33) as usize % (n + 1));
        }
        let mut tcp = Reassembler::new();
        if syn {
            tcp = Reassembler::after_syn(isn.wrapping_sub(1));
        } else {
            // Without a SYN the first byte has to come first.
            parts.insert(0, (0, 1));
        }
        let mut given = Vec::new();
        for (from, to) in parts {
            given.extend(tcp.push(isn.wrapping_add(from as u32), &stream[from..to]));
        }
        prop_assert_eq!(given, messages);
        prop_assert!(!tcp.gave_up());
    }

    #[test]
    fn the_stream_stays_bounded(
        segments in prop::collection::vec((any::<u32>(), 0usize..3000), 0..200),
        near in any::<bool>(),
    ) {
        let mut tcp = Reassembler::new();
        for (seq, length) in segments {
            let seq = if near { seq % 200_000 } else { seq };
            tcp.push(seq, &vec![0xff; length]);
        }
    }
}
