//! The static binaries that go into the machines.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// As `make test-vm` builds this program, so that dependencies are compiled once.
const PROFILE: &str = "vm";

/// The daemon.
pub fn daemon() -> PathBuf {
    env!("CARGO_BIN_EXE_raqib").into()
}

/// Builds these test files; their names and binaries.
///
/// # Errors
/// Cargo's, which has said why.
pub fn tests(names: &[&'static str]) -> Result<Vec<(String, PathBuf)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Target and flags come by the environment, as they came here.
    command.args(["test", "--no-run", "--quiet", "--profile", PROFILE]);
    command.arg("--message-format=json-render-diagnostics");
    for name in names {
        command.args(["--test", name]);
    }
    let output = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let (name, binary) = (&message["target"]["name"], &message["executable"]);
        if let (Some(name), Some(binary)) = (name.as_str(), binary.as_str())
            && names.contains(&name)
            && message["profile"]["test"] == true
        {
            found.push((name.to_owned(), PathBuf::from(binary)));
        }
    }
    ensure!(found.len() == names.len(), "cargo built {found:?}, not {names:?}");
    Ok(found)
}
