//! The typed sections of the configuration and their defaults.
//!
//! The literals below are the only place where a default is written: the sample, the schema and
//! the reference read them from here. Range and long text of each key stand in [`super::keys`].

use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// `run-time`: what the daemon says about itself, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunTime {
    pub log_level: LogLevel,
    /// Measure the daemon's own work.
    pub profiler: bool,
    /// Answer health questions on the status socket.
    pub health: bool,
    /// Answer with metrics on the status socket.
    pub metrics: bool,
    /// Accepted for compatibility; no effect.
    pub cardinal: bool,
    /// `stdout`, or the path of a file.
    pub stdout: String,
    /// `stderr`, or the path of a file.
    pub stderr: String,
    /// Status socket.
    pub socket: PathBuf,
}

impl Default for RunTime {
    fn default() -> Self {
        Self {
            log_level: LogLevel::Info,
            profiler: false,
            health: true,
            metrics: false,
            cardinal: true,
            stdout: "stdout".into(),
            stderr: "stderr".into(),
            socket: "/run/raqib/raqib.sock".into(),
        }
    }
}

/// `run-time.log-level`: least important message that is still logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Quiet,
    Fatal,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    /// As `info`, in a short form for people.
    Simple,
}

impl LogLevel {
    pub const ALL: [Self; 7] =
        [Self::Quiet, Self::Fatal, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Simple];

    /// The word in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Simple => "simple",
        }
    }

    /// What the logger must let through. `fatal` is `error` here: whatever ends the daemon is
    /// logged as an error.
    pub const fn filter(self) -> log::LevelFilter {
        match self {
            Self::Quiet => log::LevelFilter::Off,
            Self::Fatal | Self::Error => log::LevelFilter::Error,
            Self::Warn => log::LevelFilter::Warn,
            Self::Info | Self::Simple => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
        }
    }
}

/// `cadences`: how often each plugin seals and reads its epoch.
///
/// One second, where Jibril waits three: what a shorter cadence costs is the sealing (8-20 ms of
/// waiting, next to no CPU), and it halves the mean latency of a detection to below a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cadences {
    #[serde(serialize_with = "seconds")]
    pub execution: Duration,
    #[serde(serialize_with = "seconds")]
    pub file_access: Duration,
    #[serde(serialize_with = "seconds")]
    pub network_peers: Duration,
    #[serde(serialize_with = "seconds")]
    pub network_flows: Duration,
    #[serde(serialize_with = "seconds")]
    pub env_vars: Duration,
    #[serde(serialize_with = "seconds")]
    pub activity: Duration,
    #[serde(serialize_with = "seconds")]
    pub containers: Duration,
}

impl Default for Cadences {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            execution: second,
            file_access: second,
            network_peers: second,
            network_flows: second,
            env_vars: second,
            activity: second,
            containers: second,
        }
    }
}

/// Seconds as the file has them: whole ones without a point.
fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

/// `caches`: sizes of the tables, each in units of 1024 entries.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Caches {
    /// Ended processes kept in user space.
    pub rec_tasks: u32,
    /// Execution rows of one epoch.
    pub tasks: u32,
    /// Sizes nothing here.
    pub cmds: u32,
    /// Argument chunks (256 bytes) of one epoch.
    pub args: u32,
    /// Path texts kept in user space.
    pub files: u32,
    /// With `bases`: path components of one epoch.
    pub dirs: u32,
    /// With `dirs`: path components of one epoch.
    pub bases: u32,
    /// (task, file) rows of one epoch.
    pub task_file: u32,
    /// Sizes nothing here.
    pub file_task: u32,
    /// Sizes nothing here.
    pub task_ref: u32,
    /// Flows kept in user space.
    pub flows: u32,
    /// (task, flow) rows of one epoch.
    pub task_flow: u32,
    /// Sizes nothing here.
    pub flow_task: u32,
    /// Sizes nothing here.
    pub flow_ref: u32,
    /// DNS answer chunks of one epoch.
    pub peers: u32,
    /// Environment rows of one epoch.
    pub envs: u32,
    /// Activity rows of one epoch.
    pub activities: u32,
    /// Cgroups kept in user space; a quarter of it are rows of one epoch.
    pub containers: u32,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            rec_tasks: 32,
            tasks: 8,
            cmds: 32,
            args: 8,
            files: 32,
            dirs: 16,
            bases: 32,
            task_file: 48,
            file_task: 32,
            task_ref: 32,
            flows: 32,
            task_flow: 16,
            flow_task: 32,
            flow_ref: 32,
            peers: 1,
            envs: 4,
            activities: 4,
            containers: 16,
        }
    }
}

/// `feature_options`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeatureOptions {
    pub netpolicy: NetpolicyOptions,
    pub detect: DetectOptions,
    pub alchemies: AlchemyOptions,
}

/// `feature_options.netpolicy`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetpolicyOptions {
    /// The network policy; it need not exist while the feature is off.
    pub file: PathBuf,
}

impl Default for NetpolicyOptions {
    fn default() -> Self {
        Self { file: "/etc/raqib/netpolicy.yaml".into() }
    }
}

/// `feature_options.detect`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DetectOptions {
    /// Record file closes even if no recipe asks for the action `close`.
    pub close: bool,
    /// Tell alerts with the SHA-256 of the executable.
    pub hash: bool,
    /// MiB of the largest executable that is read.
    #[serde(rename = "hash-max-size")]
    pub hash_max_size: u32,
}

impl Default for DetectOptions {
    fn default() -> Self {
        Self { close: false, hash: true, hash_max_size: 64 }
    }
}

/// `feature_options.alchemies`: where recipes come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlchemyOptions {
    pub builtin: BuiltinRecipes,
    pub public: RecipeDirs,
    pub private: RecipeDirs,
}

/// The recipes inside the binary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BuiltinRecipes {
    pub enabled: bool,
}

/// Directories of recipe files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecipeDirs {
    pub enabled: bool,
    pub paths: Vec<PathBuf>,
}

impl Default for AlchemyOptions {
    fn default() -> Self {
        let dirs = |path: &str| RecipeDirs { enabled: true, paths: vec![path.into()] };
        Self {
            builtin: BuiltinRecipes { enabled: true },
            public: dirs("/etc/raqib/recipes/public"),
            private: dirs("/etc/raqib/recipes/private"),
        }
    }
}

/// `printer_options`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PrinterOptions {
    pub stdout: StdoutOptions,
    pub varlog: VarlogOptions,
}

/// `printer_options.stdout`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StdoutOptions {
    /// Always one line of JSON per alert.
    pub raw: bool,
}

/// `printer_options.varlog`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VarlogOptions {
    /// Always one line of JSON per alert.
    pub raw: bool,
    pub file: PathBuf,
    /// MiB at which the file is rotated.
    pub max_size: u32,
    /// Rotated files that are kept.
    pub keep: u32,
}

impl Default for VarlogOptions {
    fn default() -> Self {
        Self { raw: true, file: "/var/log/raqib.out".into(), max_size: 100, keep: 5 }
    }
}
