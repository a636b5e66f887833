mod skel { include!(concat!(env!("OUT_DIR"), "/raqib.skel.rs")); }
use libbpf_rs::skel::*;
use libbpf_rs::*;
fn main() {
    let mut store = std::mem::MaybeUninit::uninit();
    let b = skel::RaqibSkelBuilder::default();
    let o = b.open(&mut store).unwrap();
    let s = o.load();
    match s { Ok(_) => println!("ok"), Err(e) => println!("{e:#}") }
}
