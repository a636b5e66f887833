//! DNS answers, read from bytes that an attacker may have written.
//!
//! A parser of our own, because it must do what resolver libraries need not: never panic, do
//! bounded work on any input, keep what was complete in a message that was cut (the kernel side
//! copies a limited head), leave out one malformed record instead of the whole message (else
//! one odd record would hide the others), and tell the names that lead from the question to an
//! address from those that merely stand in the same message.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod tcp;

pub use tcp::Reassembler;

const HEADER: usize = 12;
/// Wire length of a name with its length bytes and the root (RFC 1035 §3.1).
const MAX_NAME: usize = 255;
/// Legitimate names need one or two; the limit only bounds the work.
const MAX_JUMPS: usize = 128;
/// Questions and answers looked at. A 64 KiB message holds about that many compressed A records.
const MAX_RECORDS: usize = 4096;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Why a message gave nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// Fewer bytes than a DNS header has.
    Short,
    /// The QR bit is clear: a question, or not DNS.
    NotAResponse,
    /// Not a standard query's answer (notify, update, status): the opcode.
    Opcode(u8),
    /// The question itself could not be read, so nothing can be said to answer it.
    Question(NameError),
}

/// Why a domain name could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The bytes end inside the name.
    Cut,
    /// A compression pointer that does not point before the part that holds it (a loop or
    /// worse), or to something that is no name.
    Pointer,
    /// More than 128 compression pointers in one name.
    Jumps,
    /// More than 255 bytes.
    Long,
    /// Label type bits 01 or 10 (never standardised, or withdrawn).
    Label,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "shorter than a DNS header"),
            Self::NotAResponse => write!(f, "not a DNS response"),
            Self::Opcode(opcode) => write!(f, "DNS opcode {opcode}, not a standard query"),
            Self::Question(why) => write!(f, "DNS question: {why}"),
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "name is cut",
            Self::Pointer => "compression pointer does not lead back to a name",
            Self::Jumps => "too many compression pointers",
            Self::Long => "name is longer than 255 bytes",
            Self::Label => "unknown label type",
        })
    }
}

impl std::error::Error for DnsError {}
impl std::error::Error for NameError {}

/// What a response says in its question and answer sections; the others are not looked at, as
/// stub resolvers take no address from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub id: u16,
    /// The header's four bits (0 NOERROR, 3 NXDOMAIN ...).
    pub rcode: u8,
    /// The server's TC bit: the resolver will ask again over TCP.
    pub truncated: bool,
    /// The bytes ended, or the limit of 4096 records was reached, before the answers did.
    pub cut: bool,
    /// Something in it was malformed and left out.
    pub malformed: bool,
    /// Name of the first question (messages with several do not occur in practice).
    pub question: Option<String>,
    /// Type of the first question (1 A, 28 AAAA ...), 0 when there is none.
    pub qtype: u16,
    /// In the order of the message.
    pub answers: Vec<Answer>,
}

/// One record of the answer section. Names are lower case, without the trailing dot (the root
/// is `.`); bytes other than letters, digits, `-` and `_` are written `\ddd`, so that a dot
/// is always a separator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    /// Seconds; values with the top bit set count as 0 (RFC 2181 §8).
    pub ttl: u32,
    pub record: Record,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    /// Any other type, or a class other than IN.
    Other(u16),
}

/// Reads a response. It fails only when not even the question can be told.
pub fn parse_response(bytes: &[u8]) -> Result<Response, DnsError> {
    if bytes.len() < HEADER {
        return Err(DnsError::Short);
    }
    let mut reader = Reader { bytes, at: 0 };
    let mut word = || reader.u16().ok_or(DnsError::Short);
    let (id, flags, questions, answers) = (word()?, word()?, word()?, word()?);
    if flags & 0x8000 == 0 {
        return Err(DnsError::NotAResponse);
    }
    let opcode = (flags >> 11 & 0xf) as u8;
    if opcode != 0 {
        return Err(DnsError::Opcode(opcode));
    }
    let mut response = Response {
        id,
        rcode: (flags & 0xf) as u8,
        truncated: flags & 0x0200 != 0,
        cut: false,
        malformed: false,
        question: None,
        qtype: 0,
        answers: Vec::new(),
    };
    reader.at = HEADER;
    response.read_questions(&mut reader, questions)?;
    response.read_answers(&mut reader, questions, answers);
    Ok(response)
}

impl Response {
    fn read_questions(&mut self, reader: &mut Reader<'_>, count: u16) -> Result<(), DnsError> {
        for index in 0..usize::from(count).min(MAX_RECORDS) {
            let name = match reader.name() {
                Ok(name) => name,
                Err(NameError::Cut) if index > 0 => break,
                Err(why) => return Err(DnsError::Question(why)),
            };
            let fixed = reader.u16().zip(reader.u16());
            if index == 0 {
                self.question = Some(name);
                self.qtype = fixed.map_or(0, |(qtype, _class)| qtype);
            }
            if fixed.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn read_answers(&mut self, reader: &mut Reader<'_>, questions: u16, count: u16) {
        let count = usize::from(count);
        let looked_at = count.min(MAX_RECORDS.saturating_sub(questions.into()));
        self.cut = looked_at < count;
        for _ in 0..looked_at {
            match reader.answer() {
                Ok(Some(answer)) => self.answers.push(answer),
                Ok(None) => {}
                Err(Stop::Record) => self.malformed = true,
                Err(Stop::Message) => {
                    self.malformed = true;
                    return;
                }
                Err(Stop::Cut) => {
                    self.cut = true;
                    return;
                }
            }
        }
    }

    /// The question, then the names that CNAME records lead to from it, in order. Records that
    /// no link from the question reaches do not count: whoever answers may add any.
    pub fn names(&self) -> Vec<&str> {
        let Some(question) = self.question.as_deref() else { return Vec::new() };
        let mut links: HashMap<&str, Vec<&str>> = HashMap::new();
        for answer in &self.answers {
            if let Record::Cname(target) = &answer.record {
                links.entry(&answer.name).or_default().push(target);
            }
        }
        let mut names = vec![question];
        let mut seen = HashSet::from([question]);
        let mut next = 0;
        while let Some(name) = names.get(next) {
            next += 1;
            for target in links.remove(name).unwrap_or_default() {
                if seen.insert(target) {
                    names.push(target);
                }
            }
        }
        names
    }

    /// Addresses of the names in [`Response::names`], with their time to live in seconds, each
    /// once; IPv4-mapped IPv6 addresses as IPv4.
    pub fn addresses(&self) -> Vec<(IpAddr, u32)> {
        let names: HashSet<&str> = self.names().into_iter().collect();
        let mut seen = HashSet::new();
        let mut addresses = Vec::new();
        for answer in self.answers.iter().filter(|answer| names.contains(answer.name.as_str())) {
            let address = match answer.record {
                Record::A(address) => IpAddr::V4(address),
                Record::Aaaa(address) => IpAddr::V6(address).to_canonical(),
                Record::Cname(_) | Record::Other(_) => continue,
            };
            if seen.insert(address) {
                addresses.push((address, answer.ttl));
            }
        }
        addresses
    }
}

/// How much of a message is lost with a record that cannot be read.
enum Stop {
    /// Only the record: its end is known.
    Record,
    /// The rest of the message: where the next record starts is not known.
    Message,
    /// The bytes ended.
    Cut,
}

/// A place in a message. Every read checks the bounds; a failed one may move the place.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// One record; `None` is EDNS's pseudo record, which is not an answer.
    fn answer(&mut self) -> Result<Option<Answer>, Stop> {
        let name = match self.name() {
            Err(NameError::Cut) => return Err(Stop::Cut),
            Err(NameError::Label) => return Err(Stop::Message),
            other => other.map_err(|_| Stop::Record),
        };
        let kind = self.u16().ok_or(Stop::Cut)?;
        let class = self.u16().ok_or(Stop::Cut)?;
        let ttl = self.u32().ok_or(Stop::Cut)?;
        let length = usize::from(self.u16().ok_or(Stop::Cut)?);
        let start = self.at;
        let content = self.take(length).ok_or(Stop::Cut)?;
        let name = name?;
        let record = match (kind, class) {
            (TYPE_OPT, _) => return Ok(None),
            (TYPE_A, CLASS_IN) => Record::A(fixed::<4>(content)?.into()),
            (TYPE_AAAA, CLASS_IN) => Record::Aaaa(fixed::<16>(content)?.into()),
            (TYPE_CNAME, CLASS_IN) => Record::Cname(self.target(start, length)?),
            _ => Record::Other(kind),
        };
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Some(Answer { name, ttl, record }))
    }

    /// The name that fills a record's content. It may point back out of it, not read past it.
    fn target(&self, start: usize, length: usize) -> Result<String, Stop> {
        let end = start + length;
        let bytes = self.bytes.get(..end).ok_or(Stop::Record)?;
        let mut reader = Reader { bytes, at: start };
        let name = reader.name().map_err(|_| Stop::Record)?;
        if reader.at == end { Ok(name) } else { Err(Stop::Record) }
    }

    /// A name. If the result is not [`NameError::Cut`] or [`NameError::Label`], the place is
    /// behind the name afterwards, also when it is refused, so that the next record is found.
    fn name(&mut self) -> Result<String, NameError> {
        let start = self.at;
        self.at = self.end_of_name()?;
        self.expand(start)
    }

    /// Where the name at this place ends: behind its root or its first pointer.
    fn end_of_name(&self) -> Result<usize, NameError> {
        let mut at = self.at;
        loop {
            let length = *self.bytes.get(at).ok_or(NameError::Cut)?;
            let end = match length >> 6 {
                0 => at + 1 + usize::from(length),
                3 => at + 2,
                _ => return Err(NameError::Label),
            };
            if end > self.bytes.len() {
                return Err(NameError::Cut);
            }
            if length == 0 || length >> 6 == 3 {
                return Ok(end);
            }
            at = end;
        }
    }

    /// The text of the name at a place, through its pointers.
    ///
    /// Each part must start before the part that points to it. A pointer into its own part
    /// would come back to itself, so this refuses nothing that ends, except pointers forward,
    /// which RFC 1035 (§4.1.4, "prior occurrence") does not allow.
    fn expand(&self, mut at: usize) -> Result<String, NameError> {
        let mut name = String::new();
        let (mut part, mut wire, mut jumps) = (at, 1, 0);
        loop {
            let length = *self.bytes.get(at).ok_or(NameError::Pointer)?;
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    let end = at + 1 + usize::from(length);
                    let label = self.bytes.get(at + 1..end).ok_or(NameError::Pointer)?;
                    wire += 1 + label.len();
                    if wire > MAX_NAME {
                        return Err(NameError::Long);
                    }
                    push_label(&mut name, label);
                    at = end;
                }
                3 => {
                    let low = *self.bytes.get(at + 1).ok_or(NameError::Pointer)?;
                    let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if target >= part {
                        return Err(NameError::Pointer);
                    }
                    jumps += 1;
                    if jumps > MAX_JUMPS {
                        return Err(NameError::Jumps);
                    }
                    (at, part) = (target, target);
                }
                _ => return Err(NameError::Pointer),
            }
        }
        Ok(if name.is_empty() { ".".into() } else { name })
    }
}

fn fixed<const N: usize>(content: &[u8]) -> Result<[u8; N], Stop> {
    content.try_into().map_err(|_| Stop::Record)
}

/// A name as text has it (a server name, a host), in the form of [`Answer`]'s: lower case, without
/// the dot at its end. None if it is no name: an empty label, more than 253 bytes, no letter.
pub fn name_of_text(text: &[u8]) -> Option<String> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    let mut name = String::new();
    if text.len() > MAX_NAME - 2 {
        return None;
    }
    for label in text.split(|byte| *byte == b'.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        push_label(&mut name, label);
    }
    Some(name)
}

fn push_label(name: &mut String, label: &[u8]) {
    if !name.is_empty() {
        name.push('.');
    }
    for &byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            b'A'..=b'Z' => name.push(byte.to_ascii_lowercase().into()),
            _ => name.push_str(&format!("\\{byte:03}")),
        }
    }
}
