//! Bytes in order out of the segments of one direction of one connection, whatever order and
//! overlap they arrive in; with bounds, as the segments may be an attacker's.

use std::collections::BTreeMap;

/// Bytes kept out of order, and how far ahead they may be: one DNS message of the largest size
/// with its length prefix, and what may arrive behind it.
const MAX_BYTES: usize = 64 * 1024 + 16 * 1024;
/// Separate pieces kept: one-byte segments must not cost more than their bytes.
const MAX_PIECES: usize = 1024;
/// Offsets start here, so that a segment before the first one seen has an offset too.
const ORIGIN: u64 = 1 << 32;

/// Puts segments in order; whoever reads takes from [`Segments::ready`] what is whole.
///
/// Where segments overlap with different bytes, those that came first stand. Receivers differ
/// in this, so a sender who does it on purpose can show us another answer than the resolver.
#[derive(Debug)]
pub struct Segments {
    /// Sequence number and offset of the first byte not yet in `ready`.
    seq: Option<u32>,
    next: u64,
    /// No SYN was seen: the start is that of the first segment, until one before it comes.
    guessed: bool,
    /// In order, not yet taken.
    ready: Vec<u8>,
    /// Out of order, by offset; pieces do not overlap.
    pieces: BTreeMap<u64, Vec<u8>>,
    held: usize,
    /// Bytes that were too far away to be kept.
    outside: usize,
    gave_up: bool,
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

impl Segments {
    /// For a connection whose SYN was not seen.
    pub fn new() -> Self {
        Self {
            seq: None,
            next: ORIGIN,
            guessed: true,
            ready: Vec::new(),
            pieces: BTreeMap::new(),
            held: 0,
            outside: 0,
            gave_up: false,
        }
    }

    /// For a connection whose SYN (of this direction) had this sequence number.
    pub fn after_syn(seq: u32) -> Self {
        Self::starting_at(seq.wrapping_add(1))
    }

    /// For a connection whose first byte (of this direction) has this sequence number.
    pub fn starting_at(seq: u32) -> Self {
        Self { seq: Some(seq), guessed: false, ..Self::new() }
    }

    /// Takes the payload of a segment.
    pub fn push(&mut self, seq: u32, bytes: &[u8]) {
        if self.gave_up || bytes.is_empty() {
            return;
        }
        let expected = *self.seq.get_or_insert(seq);
        // The distance is signed: sequence numbers wrap around.
        let ahead = seq.wrapping_sub(expected).cast_signed();
        let at = self.next.wrapping_add_signed(ahead.into());
        if ahead.unsigned_abs() as usize > MAX_BYTES {
            // Far behind: an old copy. Far ahead: anybody on the path can send such a segment,
            // and the receiver drops it if it is out of its window, so one must not blind us;
            // but a stream that goes on behind a hole of that size is lost.
            self.outside += if ahead > 0 { bytes.len() } else { 0 };
            if self.outside > MAX_BYTES {
                self.give_up();
            }
            return;
        }
        if self.guessed && at + (self.ready.len() as u64) < self.next {
            self.start_earlier(seq, at);
        }
        self.keep(at, bytes);
        self.advance();
        if self.held > MAX_BYTES || self.pieces.len() > MAX_PIECES {
            self.give_up();
        }
    }

    /// What is in order and not yet taken.
    pub fn ready(&self) -> &[u8] {
        &self.ready
    }

    /// Takes the first bytes of what is ready. The start is then no longer a guess.
    pub fn take(&mut self, bytes: usize) {
        self.guessed &= bytes == 0;
        self.ready.drain(..bytes.min(self.ready.len()));
    }

    /// More was out of order than is kept: nothing further will be given.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    fn give_up(&mut self) {
        *self = Self { gave_up: true, ..Self::new() };
    }

    /// Nothing was given yet, so the bytes held are as good as out of order.
    fn start_earlier(&mut self, seq: u32, at: u64) {
        let ready = std::mem::take(&mut self.ready);
        if !ready.is_empty() {
            self.held += ready.len();
            self.pieces.insert(self.next - ready.len() as u64, ready);
        }
        self.seq = Some(seq);
        self.next = at;
    }

    /// Keeps of a segment what is neither given nor held already.
    fn keep(&mut self, mut at: u64, mut bytes: &[u8]) {
        let mut known = self.next;
        if let Some((start, piece)) = self.pieces.range(..=at).next_back() {
            known = known.max(start + piece.len() as u64);
        }
        loop {
            let skip = known.saturating_sub(at).min(bytes.len() as u64);
            at += skip;
            bytes = bytes.get(skip as usize..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let held = self.pieces.range(at..).next();
            let held = held.map(|(start, piece)| (*start, start + piece.len() as u64));
            let room = held.map_or(u64::MAX, |(start, _)| start - at);
            let (free, rest) = bytes.split_at(room.min(bytes.len() as u64) as usize);
            if !free.is_empty() {
                self.held += free.len();
                self.pieces.insert(at, free.to_vec());
            }
            let Some((_, end)) = held else { return };
            (at, bytes, known) = (at + free.len() as u64, rest, end);
        }
    }

    /// Moves what has come in order.
    fn advance(&mut self) {
        while let Some(piece) = self.pieces.remove(&self.next) {
            self.held -= piece.len();
            self.next += piece.len() as u64;
            self.seq = self.seq.map(|seq| seq.wrapping_add(piece.len() as u32));
            self.ready.extend_from_slice(&piece);
        }
    }
}
