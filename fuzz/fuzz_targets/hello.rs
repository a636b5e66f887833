//! First messages of clients, any bytes: the parsers neither panic nor give what is no name, and
//! more bytes never make something else of what was understood as TLS.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raqib::event::Source;
use raqib::hello::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(hello) = parse(bytes) else { return };
    assert!(hello.names.len() <= 4 && hello.addresses.len() <= 4);
    for name in &hello.names {
        assert!(name.len() <= 4 * 253);
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    }
    if let Source::Tls { alpn, .. } = &hello.source {
        assert!(alpn.len() <= 8);
        assert_eq!(parse(&[bytes, b"more"].concat()).as_ref(), Ok(&hello));
    }
});
