//! The attached programs.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, ProgramType};

use super::load::Kernel;

/// Attached programs; dropping it detaches them all.
#[derive(Debug, Default)]
pub struct Attached {
    links: Vec<(&'static str, Link)>,
}

impl Attached {
    /// Attaches the programs by name, those of cgroups to the hierarchy's root, and detaches
    /// what is attached and not named.
    pub fn attach(
        &mut self,
        kernel: &Kernel,
        names: &[&'static str],
        cgroup: Option<&Path>,
    ) -> Result<()> {
        self.links.retain(|(attached, _)| names.contains(attached));
        let cgroup =
            cgroup.map(File::open).transpose().context("cannot open the cgroup v2 root")?;
        for program in kernel.skel.object().progs_mut() {
            let Some(name) = names.iter().find(|name| program.name() == **name) else { continue };
            if self.links.iter().any(|(attached, _)| attached == name) {
                continue;
            }
            let section = program.section().to_string_lossy().into_owned();
            let link = match &cgroup {
                Some(root) if section.starts_with("cgroup") => {
                    program.attach_cgroup(root.as_raw_fd())
                }
                // Programs of security hooks that were loaded for functions: see `load`.
                _ if program.prog_type() == ProgramType::Tracing && section.starts_with("lsm") => {
                    program.attach_trace()
                }
                _ => program.attach(),
            };
            self.links.push((name, link.with_context(|| format!("cannot attach {section}"))?));
        }
        Ok(())
    }
}
