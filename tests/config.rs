//! The configuration, through the library: what is read, what is refused and how it is said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use raqib::config::{Config, LogLevel, reference, sample, schema};
use raqib::event::Mechanism;
use raqib::problem::Problem;
use serde_json::Value;

const JIBRIL: &str = include_str!("fixtures/config/jibril.yaml");
const BLOCK: &str = include_str!("fixtures/config/block.yaml");
const FLAT: &str = include_str!("fixtures/config/flat.yaml");

fn good(text: &str) -> Config {
    Config::parse("raqib.yaml", text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn bad(text: &str) -> Vec<Problem> {
    Config::parse("raqib.yaml", text).expect_err(text)
}

/// The text has one mistake: at this line, with this key, and these words are said.
#[track_caller]
fn one(text: &str, line: usize, key: &str, words: &str) {
    let problems = bad(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0].file, "raqib.yaml");
    assert_eq!((problems[0].line, problems[0].key.as_str()), (line, key), "{}", problems[0]);
    assert!(problems[0].message.contains(words), "{}", problems[0]);
}

/// The file is what the function makes; RAQIB_WRITE_DOCS=1 writes it instead.
fn same_as_file(path: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("RAQIB_WRITE_DOCS").is_some() {
        fs::write(&path, made).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "{} is stale: run with RAQIB_WRITE_DOCS=1", path.display());
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "\n", "# nothing\n", "---\n", "{}", "\u{feff}", "caches:\ncadences: {}\n"] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_defaults_are_these() {
    let config = Config::default();
    assert_eq!(config.run_time.log_level, LogLevel::Info);
    assert_eq!(config.run_time.socket, Path::new("/run/raqib/raqib.sock"));
    assert_eq!(config.cadences.execution, Duration::from_secs(1));
    assert_eq!(config.caches.tasks, 8);
    assert_eq!(config.caches.peers, 1);
    assert_eq!(config.printers, ["stdout"]);
    assert_eq!(config.printer_options.varlog.max_size, 100);
    assert!(!config.feature_options.detect.close);
    assert_eq!(config.events, None);
    assert_eq!(config.plugins(), Mechanism::ALL);
    assert_eq!(
        config.recipe_dirs(),
        [Path::new("/etc/raqib/recipes/public"), Path::new("/etc/raqib/recipes/private")]
    );
    assert_eq!(config.notices(), Vec::<String>::new());
}

#[test]
fn a_file_with_all_known_keys_is_read() {
    let config = good(JIBRIL);
    assert_eq!(config.run_time.log_level, LogLevel::Simple);
    assert!(config.run_time.metrics);
    assert_eq!(config.run_time.stderr, "/var/log/loader.err");
    assert_eq!(config.cadences.execution, Duration::from_secs(1));
    assert_eq!(config.cadences.network_peers, Duration::from_secs(4));
    assert_eq!(config.caches.task_file, 512);
    assert_eq!(config.caches.flow_ref, 128);
    assert_eq!(config.caches.envs, 4);
    assert_eq!(config.functionalities, ["jibril"]);
    assert_eq!(config.plugins(), Mechanism::ALL);
    let options = &config.feature_options;
    assert_eq!(options.netpolicy.file, Path::new("/etc/jibril/network-policy.yaml"));
    assert!(!config.builtin_recipes());
    assert_eq!(config.recipe_dirs(), [Path::new("/etc/jibril/alchemies/public")]);
    assert_eq!(options.alchemies.private.paths.len(), 2);
    assert_eq!(config.printers, ["stdout", "varlog", "garnet"]);
    assert_eq!(config.printers_built().collect::<Vec<_>>(), ["stdout", "varlog"]);
    assert!(config.printer_options.stdout.raw);
    assert_eq!(config.printer_options.varlog.file, Path::new("/var/log/jibril.out"));
    assert_eq!(
        config.events.as_deref(),
        Some(&["dropip", "flow", "hidden_elf_exec"].map(String::from)[..])
    );
    assert_eq!(
        config.notices(),
        [
            "feature netpolicy is accepted but does nothing in this version",
            "printer garnet is accepted but does nothing in this version",
        ]
    );
}

#[test]
fn hyphens_and_underscores_are_the_same() {
    let other = good(
        &JIBRIL
            .replace("run-time", "run_time")
            .replace("file-access", "file_access")
            .replace("log-level", "log_level")
            .replace("rec-tasks", "rec_tasks")
            .replace("feature_options", "feature-options")
            .replace("error_log_rate", "error-log-rate"),
    );
    assert_eq!(other, good(JIBRIL));
    assert_eq!(good("features: [network-flows]").plugins(), [Mechanism::NetworkFlows]);
}

#[test]
fn what_is_serialized_is_read_back() {
    for config in [Config::default(), good(JIBRIL), good("cadences: {execution: 0.25}")] {
        assert_eq!(good(&serde_yaml::to_string(&config).unwrap()), config);
    }
}

#[test]
fn plugins_are_all_with_detect_and_else_those_named() {
    assert_eq!(good("features: [hold, detect, env_vars]").plugins(), Mechanism::ALL);
    assert_eq!(
        good("features: [env_vars, execution]").plugins(),
        [Mechanism::Execution, Mechanism::EnvVars]
    );
    let none = good("features: [hold]");
    assert!(none.plugins().is_empty());
    assert!(none.recipe_dirs().is_empty());
    assert!(none.notices()[0].contains("nothing is watched"));
}

#[test]
fn what_silences_the_daemon_is_noticed() {
    let config = good("printers: [garnet]\nevents: []\n");
    let notices = config.notices().join("\n");
    assert!(
        notices.contains("printed nowhere") && notices.contains("no recipe is used"),
        "{notices}"
    );
}

#[test]
fn values_of_many_forms_are_read() {
    assert_eq!(good("cadences: {execution: 0.1}").cadences.execution, Duration::from_millis(100));
    assert_eq!(good("cadences: {execution: 3600}").cadences.execution, Duration::from_secs(3600));
    assert_eq!(good("cadences: {execution: 1e1}").cadences.execution, Duration::from_secs(10));
    assert!(good("run-time: {profiler: yes}").run_time.profiler);
    assert_eq!(good("caches: {tasks: 0x10}").caches.tasks, 16);
    assert_eq!(good("printers: [stdout, stdout]").printers, ["stdout"]);
    assert_eq!(good("events: null").events, None);
    assert_eq!(good("caches:\n  tasks: &n 7\n  args: *n\n").caches.args, 7);
    assert_eq!(good("caches:\r\n  tasks: 7\r\n").caches.tasks, 7);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    one(
        "run-time:\n  log-levle: info\n",
        2,
        "run-time.log-levle",
        "did you mean run-time.log-level?",
    );
    one("cadence:\n  execution: 1\n", 1, "cadence", "did you mean cadences?");
    one(
        "\n\nprinter_options:\n  varlog:\n    max_sise: 3",
        5,
        "printer_options.varlog.max_sise",
        "max-size?",
    );
    one("caches:\n  file_access: 1", 2, "caches.file_access", "did you mean cadences.file-access?");
    one("run-time:\n  sandwich: 1", 2, "run-time.sandwich", "expected one of log-level, profiler");
    one(
        "feature_options:\n  detect:\n    open: true",
        3,
        "feature_options.detect.open",
        "expected one of close",
    );
    one("? [a]\n: 1", 1, "", "plain word");
}

#[test]
fn wrong_types_are_refused() {
    one(
        "caches:\n  tasks: lots",
        2,
        "caches.tasks",
        "is \"lots\"; expected a whole number from 1 to 4096",
    );
    one("caches:\n  tasks: 2.5", 2, "caches.tasks", "is 2.5; expected a whole number");
    one("caches:\n  tasks: [1]", 2, "caches.tasks", "is a list; expected a whole number");
    one("caches: [1]", 1, "caches", "is a list; expected a map");
    one("caches:\n  tasks:\n", 2, "caches.tasks", "is empty; expected");
    one("printers:\n# - stdout\n", 1, "printers", "is empty; expected a list of names: stdout");
    one("printers: stdout", 1, "printers", "expected a list");
    one("run-time:\n  health: maybe", 2, "run-time.health", "expected true or false");
    one("run-time:\n  stdout: 7", 2, "run-time.stdout", "is 7; expected text");
    one(
        "run-time:\n  log-level: loud",
        2,
        "run-time.log-level",
        "expected one of quiet, fatal, error",
    );
    one(
        "cadences:\n  env-vars: 3s",
        2,
        "cadences.env-vars",
        "expected a number from 0.1 to 3600 (seconds)",
    );
    one("events:\n  - flow\n  - 7\n", 3, "events[1]", "is 7; expected text");
    one("event_options: 3", 1, "event_options", "expected a map");
    one(
        "printer_options:\n  garnet:\n    error_log_rate: [1]",
        3,
        "printer_options.garnet.error_log_rate",
        "expected text",
    );
    one("just words", 1, "", "expected a map of keys");
    one("- a\n- b", 1, "", "is a list; expected a map of keys");
}

#[test]
fn values_out_of_range_are_refused() {
    for value in ["0", "4097", "-1", "99999999999999999999", "4294967297"] {
        one(&format!("caches:\n\n  flows: {value}"), 3, "caches.flows", "from 1 to 4096");
    }
    for value in ["0", "0.09", "3600.5", "-1", ".nan", ".inf", "1e300"] {
        one(
            &format!("cadences:\n  execution: {value}"),
            2,
            "cadences.execution",
            "from 0.1 to 3600",
        );
    }
    one(
        "printer_options: {varlog: {keep: 1001}}",
        1,
        "printer_options.varlog.keep",
        "from 0 to 1000 (files)",
    );
    assert_eq!(good("printer_options: {varlog: {keep: 0}}").printer_options.varlog.keep, 0);
    let long = format!("run-time:\n  socket: /{}", "s".repeat(107));
    one(&long, 2, "run-time.socket", "at most 107 bytes");
    one("run-time: {socket: \"\"}", 1, "run-time.socket", "expected a path");
    one("run-time: {socket: \"/a\\0b\"}", 1, "run-time.socket", "expected a path");
}

#[test]
fn keys_given_twice_are_refused() {
    one(
        "caches:\n  tasks: 1\n  args: 1\n  tasks: 2\n",
        4,
        "caches.tasks",
        "twice; first on line 2",
    );
    one("caches:\n  task-file: 1\n  task_file: 2\n", 3, "caches.task_file", "first on line 2");
    one("features: [detect]\ncaches: {}\nfeatures: [detect]", 3, "features", "first on line 1");
}

#[test]
fn unknown_names_in_lists_are_refused() {
    one(
        "features:\n  - hold\n  - detct\n",
        3,
        "features[1]",
        "\"detct\" is unknown; did you mean detect?",
    );
    one("printers: [stdout,\n  kafka]", 2, "printers[1]", "expected one of stdout, varlog");
    one("functionalities: [magic]", 1, "functionalities[0]", "expected one of raqib, jibril");
    one("printers: [[stdout]]", 1, "printers[0]", "is a list; expected text");
}

#[test]
fn all_mistakes_are_said_at_once_in_order() {
    let text = "run-time:\n  log-level: loud\n  healt: true\nprinters: [stdut]\ncaches:\n  tasks: 0\n  \
                tasks: 1\ncadences:\n  execution: x\nsandwich: 1\n";
    let found: Vec<(usize, String)> =
        bad(text).into_iter().map(|problem| (problem.line, problem.key)).collect();
    let expected = [
        (2, "run-time.log-level"),
        (3, "run-time.healt"),
        (4, "printers[0]"),
        (6, "caches.tasks"),
        (7, "caches.tasks"),
        (9, "cadences.execution"),
        (10, "sandwich"),
    ];
    assert_eq!(found, expected.map(|(line, key)| (line, key.to_owned())));
}

#[test]
fn messages_carry_no_control_characters_and_stay_short() {
    let text = format!("\"\\e[31m\\u202e{}\": 1\nprinters: [\"\\a\\r\"]", "x".repeat(100_000));
    for problem in bad(&text) {
        let said = problem.to_string();
        assert!(said.len() < 400, "{} bytes", said.len());
        assert!(
            !said.chars().any(|letter| letter.is_control() || letter == '\u{202e}'),
            "{said:?}"
        );
    }
}

#[test]
fn broken_yaml_is_one_problem_with_its_line() {
    one("caches:\n  tasks: [1\nprinters: [stdout]\n", 3, "", "is not valid YAML");
    one("caches:\n  tasks: 1\n bad: 2\n", 3, "", "is not valid YAML");
    one("a: 1\n---\nb: 1\n", 3, "", "second document");
    one("caches:\n  tasks: !include other.yaml\n", 2, "", "tags are not accepted");
    one("caches: *nothing", 1, "", "is not valid YAML");
}

#[test]
fn bombs_are_refused() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(aliases, "a{level}: &a{level} [{items}]").unwrap();
    }
    one(&aliases, 5, "", "more than 20000 values");
    let text = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a, ".repeat(1000));
    one(&text, 2, "", "more than 20000 values");
    assert_eq!(bad(&"[".repeat(100_000)).len(), 1);
    assert_eq!(bad(&"- ".repeat(100_000)).len(), 1);
    assert_eq!(bad(&"{a: ".repeat(100_000)).len(), 1);
    one("a: &a [*a]", 1, "", "alias");
    one(&"#".repeat((1 << 20) + 1), 0, "", "larger than 1048576 bytes");
}

#[test]
fn files_are_loaded_and_their_troubles_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raqib.yaml");
    let only = |words: &str| {
        let problems = Config::load(&path).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0].file, path.display().to_string());
        assert!(problems[0].message.contains(words), "{}", problems[0]);
        problems[0].line
    };
    assert_eq!(only("No such file"), 0);
    only("config/raqib.yaml");
    fs::write(&path, b"caches:\n  tasks: 1 # \xff\n").unwrap();
    assert_eq!(only("UTF-8"), 2);
    fs::write(&path, "\u{fc}".repeat(1 << 20)).unwrap();
    assert_eq!(only("larger than"), 0);
    fs::write(&path, "caches:\n  tasks: 0\n").unwrap();
    assert_eq!(only("from 1 to 4096"), 2);
    fs::write(&path, JIBRIL).unwrap();
    assert_eq!(Config::load(&path).unwrap(), good(JIBRIL));
    assert_eq!(Config::load(dir.path()).unwrap_err().len(), 1);
}

#[test]
fn the_page_on_activities_is_the_table() {
    same_as_file("docs/activities.md", &raqib::event::reference());
}

#[test]
fn the_sample_and_the_reference_are_those_in_the_repository() {
    same_as_file("config/raqib.yaml", &sample());
    same_as_file("docs/configuration.md", &reference());
}

#[test]
fn the_sample_is_the_defaults() {
    assert_eq!(good(&sample()), Config::default());
    assert!(sample().lines().all(|line| line.len() <= 100));
}

/// Walks file and schema side by side; each value must be allowed, each key described.
fn fits(path: &str, schema: &Value, value: &Value) {
    assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
    if let (Some(properties), Some(members)) = (schema["properties"].as_object(), value.as_object())
    {
        assert_eq!(schema["additionalProperties"], false, "{path}");
        for (name, value) in members {
            fits(&format!("{path}.{name}"), properties.get(name).expect(name), value);
        }
        let missing: Vec<_> =
            properties.keys().filter(|name| !members.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{path}: the sample lacks {missing:?}");
        return;
    }
    assert_eq!(&schema["default"], value, "{path}");
    if let (Some(number), Some(least)) = (value.as_f64(), schema["minimum"].as_f64()) {
        let most = schema["maximum"].as_f64().unwrap();
        assert!((least..=most).contains(&number), "{path}");
    }
    for allowed in [&schema["enum"], &schema["items"]["enum"]] {
        let Some(allowed) = allowed.as_array() else { continue };
        let given = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        assert!(given.iter().all(|given| allowed.contains(given)), "{path}");
    }
}

#[test]
fn the_schema_describes_every_key_of_the_sample() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    fits("", &schema, &serde_yaml::from_str(&sample()).unwrap());
    let peers = &schema["properties"]["caches"]["properties"]["peers"];
    assert_eq!((&peers["minimum"], &peers["maximum"]), (&1.into(), &4096.into()));
}

#[test]
fn the_layout_with_a_config_block_is_read() {
    let config = good(BLOCK);
    assert_eq!(config.run_time.log_level, LogLevel::Warn);
    assert_eq!(config.functionalities, ["config", "data", "jibril"]);
    assert_eq!(config.features, ["hold", "procfs", "detect", "netpolicy", "alchemies"]);
    assert_eq!(config.printers, ["varlog"]);
    assert_eq!(config.events, Some(["flow", "hidden_elf_exec", "dropip"].map(String::from).into()));
    assert_eq!(config.feature_options.netpolicy.file, Path::new("/etc/jibril/netpolicy.yaml"));
    assert!(!config.builtin_recipes());
    assert_eq!(config.feature_options.alchemies.public.paths, [Path::new("/etc/alchemies/")]);
    assert!(
        config
            .notices()
            .iter()
            .any(|notice| notice == "line 7: extension is read as functionalities")
    );
}

#[test]
fn the_flat_layout_is_read() {
    let config = good(FLAT);
    assert_eq!(config.run_time.log_level, LogLevel::Debug);
    assert_eq!(config.run_time.stdout, "/tmp/out");
    assert!(!config.run_time.health);
    assert_eq!(config.features, ["hold", "detect"]);
    assert_eq!(config.cadences.file_access, Duration::from_secs(9));
    let caches = &config.caches;
    assert_eq!((caches.tasks, caches.args, caches.rec_tasks, caches.files), (64, 1, 4, 33));
    assert_eq!((caches.file_task, caches.task_flow, caches.peers), (32, 128, 16));
    assert!(config.notices().iter().any(|notice| notice.contains("chop_lines")));
}

#[test]
fn mistakes_in_older_layouts_have_their_own_lines() {
    one("log-level: loud", 1, "run-time.log-level", "expected one of quiet");
    one("config:\n  plugin:\n    - jibril:detct\n", 3, "features[0]", "did you mean detect?");
    one("config:\n  sandwich: 1\n", 2, "config.sandwich", "is unknown");
    one("caches:\n  tasks: 1\n  jb_tasks: 1024\n", 3, "caches.tasks", "first on line 2");
    one("features: [detect]\nplugin: [jibril:detect]\n", 2, "features", "first on line 1");
    one("no-health: 3", 1, "run-time.health", "expected true or false");
    one("caches:\n  jb_tasks: 8388608", 2, "caches.tasks", "from 1 to 4096");
}

/// A sample or fixture with some of its bytes replaced, taken out or repeated.
fn mutated() -> impl Strategy<Value = String> {
    let texts = prop::sample::select(vec![sample(), JIBRIL.into(), BLOCK.into(), FLAT.into()]);
    let edit =
        (any::<prop::sample::Index>(), 0_usize..24, "[-:#&*!?\\[\\]{}'\"|>%@, \n\ta-z0-9._~]{0,6}");
    (texts, prop::collection::vec(edit, 1..8)).prop_map(|(text, edits)| {
        let mut letters: Vec<char> = text.chars().collect();
        for (at, length, put) in edits {
            let start = at.index(letters.len() + 1);
            let end = (start + length).min(letters.len());
            letters.splice(start..end, put.chars());
        }
        letters.into_iter().collect()
    })
}

/// Whatever the text is: no panic, and each problem says something, at a line of the text.
fn holds(text: &str) {
    match Config::parse("raqib.yaml", text) {
        Ok(config) => {
            config.notices();
            assert_eq!(good(&serde_yaml::to_string(&config).unwrap()).caches, config.caches);
        }
        Err(problems) => {
            // YAML ends a line at a lone carriage return, too.
            let lines = 1 + text.matches(['\n', '\r']).count();
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.message.is_empty());
                assert!(problem.line <= lines, "{problem} in {text:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_text_never_panics(text in ".{0,200}") {
        holds(&text);
    }

    #[test]
    fn random_marks_never_panic(text in "[-:#&*!?\\[\\]{}'\"|>%@`, \n\r\tab0.~<]{0,80}") {
        holds(&text);
    }

    #[test]
    fn mutated_files_never_panic(text in mutated()) {
        holds(&text);
    }
}
