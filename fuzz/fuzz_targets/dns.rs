//! The DNS parser and the TCP reassembler on any bytes: neither panics, runs on, nor gives a
//! name that could be mistaken for another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raqib::dns::{Reassembler, parse_response};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(response) = parse_response(bytes) {
        for name in response.names() {
            assert!(name.len() <= 4 * 255);
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
        }
        assert!(response.addresses().len() <= response.answers.len());
        assert!(response.answers.len() <= 4096);
    }

    // Pieces of the same bytes as segments: two bytes of sequence number, one of length.
    let mut tcp = Reassembler::new();
    let mut rest = bytes;
    while let Some(([high, low, length], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(*length).min(after.len());
        let seq = u32::from(u16::from_be_bytes([*high, *low]));
        for message in tcp.push(seq, &after[..length]) {
            let _ = parse_response(&message);
        }
        rest = &after[length..];
    }
});
