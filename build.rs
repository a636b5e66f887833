//! Compiles each `bpf/*.bpf.c`, links them into one object, and generates one skeleton from it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::Linker;

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // CO-RE: the target's own layouts are applied at load, so one architecture's types are
    // enough to compile against; the register names in pt_regs are what differs.
    let (arch, define) = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "aarch64" => ("aarch64", "-D__TARGET_ARCH_arm64"),
        _ => ("x86_64", "-D__TARGET_ARCH_x86"),
    };
    let vmlinux = format!("-Ivmlinux/{arch}");
    let object = out.join("raqib.bpf.o");
    let mut linker = Linker::new(&object)?;
    for source in sources("bpf")? {
        let unit = out.join(source.file_stem().context("a source without a name")?);
        let unit = unit.with_extension("o");
        SkeletonBuilder::new()
            .source(&source)
            .obj(&unit)
            .clang_args(["-mcpu=v3", "-Wall", "-Werror", define, &vmlinux])
            .build()
            .with_context(|| format!("{} does not compile", source.display()))?;
        linker.add_file(&unit).with_context(|| format!("cannot link {}", source.display()))?;
    }
    linker.link().context("the BPF objects do not link")?;
    SkeletonBuilder::new().obj(&object).generate(out.join("raqib.skel.rs"))?;
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-changed=vmlinux");
    // Embedded by a macro that cargo cannot look into.
    println!("cargo::rerun-if-changed=config/recipes");
    Ok(())
}

fn sources(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.as_ref().read_dir()? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".bpf.c") {
            found.push(path);
        }
    }
    // The order of a directory is not fixed; that of the object's programs should be.
    found.sort();
    Ok(found)
}
