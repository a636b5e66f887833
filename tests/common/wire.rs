//! Messages as they are on the wire: a question to DNS, an answer, a client's first word in TLS.

/// A TXT question.
pub fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 16, 0, 1]);
    bytes
}

/// The answer to it, with one record.
pub fn answer(query: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    bytes.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 4, 3, b'h', b'a', b'y']);
    bytes
}

/// As TCP carries either: its length before it.
pub fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// A ClientHello with a key share of that size before the name.
pub fn client_hello(name: &str, share: usize) -> Vec<u8> {
    let server = [&[0][..], &vector16(name.as_bytes())].concat();
    let extensions =
        [&[0, 51][..], &vector16(&vec![5; share]), &[0, 0], &vector16(&vector16(&server))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &vector16(&extensions)].concat();
    let message = [&[1, 0][..], &vector16(&body)].concat();
    [&[22, 3, 1][..], &vector16(&message)].concat()
}
