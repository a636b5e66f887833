//! DNS over TCP: messages out of the segments of one direction of one connection.

use crate::segments::Segments;

/// Puts segments in order and cuts the stream at the two-byte length prefixes.
#[derive(Debug, Default)]
pub struct Reassembler {
    segments: Segments,
}

impl Reassembler {
    /// For a connection whose SYN was not seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a connection whose SYN (of this direction) had this sequence number.
    pub fn after_syn(seq: u32) -> Self {
        Self { segments: Segments::after_syn(seq) }
    }

    /// Takes the payload of a segment and gives the messages that it completes, in order,
    /// without their length prefixes. Empty messages are left out.
    pub fn push(&mut self, seq: u32, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.segments.push(seq, bytes);
        let mut messages = Vec::new();
        let ready = self.segments.ready();
        let mut rest = ready;
        while let Some((prefix, body)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*prefix));
            let Some((message, after)) = body.split_at_checked(length) else { break };
            if !message.is_empty() {
                messages.push(message.to_vec());
            }
            rest = after;
        }
        let used = ready.len() - rest.len();
        self.segments.take(used);
        messages
    }

    /// More was out of order than is kept: nothing further will be given.
    pub fn gave_up(&self) -> bool {
        self.segments.gave_up()
    }
}
