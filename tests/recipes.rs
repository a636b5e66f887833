//! Recipes from the outside: what is shipped, what the grammar takes, what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raqib::detect::{Conditions, Detector, Level, Parsed, Recipe, Ruleset, check_examples, parse};
use raqib::event::{FILE_ACTIONS, Mechanism};

fn shipped() -> Ruleset {
    let (ruleset, problems) = Ruleset::load(true, &[], None);
    assert!(problems.is_empty(), "{}", lines(&problems));
    ruleset
}

fn lines(problems: &[raqib::problem::Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn yaml_files(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.insert(path);
        }
    }
}

/// A recipe with the fields that all need, and those given.
fn recipe(mechanism: &str, breed: &str, fields: &str) -> String {
    let common = "  name: n\n  version: 1.0\n  description: d\n  importance: low\n";
    format!("- kind: k\n{common}  mechanism: {mechanism}\n  breed: {breed}\n{fields}")
}

fn good(text: &str) -> Vec<Arc<Recipe>> {
    let Parsed { recipes, problems, .. } = parse("t.yaml", text);
    assert!(problems.is_empty(), "{}", lines(&problems));
    recipes.into_iter().map(Arc::new).collect()
}

/// Line, key and message of each mistake.
fn wrong(text: &str) -> Vec<(usize, String, String)> {
    let parsed = parse("t.yaml", text);
    assert!(parsed.problems.iter().all(|problem| problem.file == "t.yaml"));
    parsed.problems.into_iter().map(|p| (p.line, p.key, p.message)).collect()
}

/// Runs the examples of the recipe: each says what the recipe must do.
fn proves(text: &str) {
    for recipe in good(text) {
        assert!(!recipe.examples.is_empty());
        let problems = check_examples(&recipe);
        assert!(problems.is_empty(), "{}", lines(&problems));
    }
}

mod shipped_recipes {
    use super::*;

    #[test]
    fn all_are_embedded_and_without_a_doubt() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes");
        let mut files = BTreeSet::new();
        yaml_files(&root, &mut files);
        let ruleset = shipped();
        assert!(ruleset.notices().is_empty(), "{}", lines(ruleset.notices()));
        let all = ruleset.recipes().iter().chain(ruleset.inactive());
        let embedded: BTreeSet<PathBuf> =
            all.map(|r| root.join(r.place.file.trim_start_matches("built-in:"))).collect();
        assert_eq!(embedded, files, "touch src/detect/ruleset.rs when a file was added");
    }

    #[test]
    fn each_proves_that_it_fires_and_stays_silent() {
        let ruleset = shipped();
        let mut failed = String::new();
        for recipe in ruleset.recipes().iter().chain(ruleset.inactive()) {
            failed += &lines(&check_examples(recipe));
            let fires = recipe.examples.iter().any(|example| example.fires);
            let silent = recipe.examples.iter().any(|example| !example.fires);
            // `flow` leaves nothing out.
            if !fires || (!silent && &*recipe.kind != "flow") {
                failed += &format!("{}: needs an example of each sort\n", recipe.name);
            }
        }
        assert!(failed.is_empty(), "{failed}");
    }

    #[test]
    fn each_has_a_label_a_limit_and_a_place_of_its_own() {
        let ruleset = shipped();
        let mut names = BTreeSet::new();
        for recipe in ruleset.recipes() {
            let name = &recipe.name;
            assert!(names.insert((recipe.kind.clone(), name.clone())), "{name} twice");
            assert!(!recipe.times.is_empty(), "{name}: no limit");
            assert!(recipe.importance > Level::None, "{name}");
            let attack = &recipe.attack;
            for label in [&attack.tactic, &attack.technique] {
                assert!(label.as_ref().is_some_and(|label| label.id.is_some()), "{name}");
            }
            let room = recipe.place.file.trim_start_matches("built-in:");
            let room = room.split('/').next().expect("a directory");
            let mechanism = Mechanism::ALL.into_iter().find(|each| each.name() == room);
            assert!(recipe.mechanism.sees(mechanism.expect("a plugin")), "{name} in {room}");
        }
        assert!(names.len() >= 40, "{}", names.len());
    }
}

mod grammar {
    use super::*;

    #[test]
    fn actions_are_a_list_a_word_or_joined_words() {
        for actions in ["[open, read]", "open|read", "'open | read'", "[open|read]"] {
            let text =
                recipe("file_access", "file_access", &format!("  file_actions: {actions}\n"));
            let Conditions::File(rule) = &good(&text)[0].conditions else { panic!("a file rule") };
            let names: Vec<&str> = (0..15)
                .filter(|bit| rule.actions.want.has(*bit))
                .map(|bit| FILE_ACTIONS[bit as usize])
                .collect();
            assert_eq!(names, ["open", "read"], "{actions}");
        }
    }

    #[test]
    fn both_keys_for_the_type_of_domains() {
        for key in ["remote_domains_type", "remote_domains_trie_type"] {
            proves(&recipe(
                "network_peers",
                "remote_domains",
                &format!(
                    "  remote_domains: [a.example]\n  {key}: suffix\n  examples:\n    fires:\n    \
                     - {{ names: [x.a.example] }}\n    silent:\n    - {{ names: [ba.example] }}\n"
                ),
            ));
        }
    }

    #[test]
    fn fields_without_a_value_are_absent() {
        let fields =
            "  times: null\n  arbitrary:\n  reactions: ~\n  documentation: ''\n  base: ''\n";
        let read = good(&recipe("file_access", "file_access", fields));
        assert!(read[0].times.is_empty() && read[0].arbitrary.is_empty() && read[0].enabled);
        let Conditions::File(rule) = &read[0].conditions else { panic!("a file rule") };
        assert!(rule.places.is_empty());
    }

    #[test]
    fn one_kind_has_several_names_and_any_kind_will_do() {
        let one = recipe("file_access", "file_access", "").replace("kind: k", "kind: My-Own Kind");
        let two = one.replace("name: n", "name: m");
        let read = good(&format!("{one}{two}"));
        assert_eq!(read.iter().map(|r| &*r.kind).collect::<Vec<_>>(), ["my_own_kind"; 2]);
        assert_ne!(read[0].fingerprint, read[1].fingerprint);
    }

    #[test]
    fn files_may_be_empty_or_hold_several_documents() {
        assert!(
            good("").is_empty() && good("---\n").is_empty() && good("# only words\n").is_empty()
        );
        let one = recipe("file_access", "file_access", "");
        assert_eq!(good(&format!("---\n{one}---\n{one}")).len(), 2);
    }

    #[test]
    fn places_are_ored_and_each_is_anded() {
        let fields = "
  file_actions: read
  dir: /etc
  base: exact
  bases:
    - { dir: /direct/ }
    - { base: anywhere }
    - { regex: part }
    - { dir: /etc/netplan, regex: '.*\\.ya?ml$' }
  examples:
    fires:
      - { file: /etc/exact, actions: read }
      - { file: /direct/child, actions: read|open }
      - { file: /x/y/anywhere, actions: read }
      - { file: /x/apartment/y, actions: read }
      - { file: /etc/netplan/a.yaml, actions: read }
    silent:
      - { file: /etc/exact, actions: open }
      - { file: /usr/exact, actions: read }
      - { file: /direct/sub/child, actions: read }
      - { file: /etc/netplan/a.txt, actions: read }
";
        proves(&recipe("file_access", "file_access", fields));
    }

    #[test]
    fn all_actions_are_a_superset_and_excluded_ones_veto() {
        let fields = "
  file_actions: [open, unlink]
  file_actions_how: all
  file_actions_excl: [write]
  examples:
    fires:
      - { file: /a, actions: [open, unlink] }
      - { file: /a, actions: [open, read, unlink] }
    silent:
      - { file: /a, actions: open }
      - { file: /a, actions: [open, unlink, write] }
";
        proves(&recipe("file_access", "file_access", fields));
    }

    #[test]
    fn executions_match_the_program_and_its_script() {
        let fields = "
  base: x
  examples:
    fires: [{ exe: /opt/x }, { exe: /bin/sh, script: /opt/x }]
    silent: [{ exe: /opt/y }, { exe: /bin/sh, args: /opt/x }]
";
        for breed in ["execution", "file_access"] {
            proves(&recipe("execution", breed, fields));
            proves(&recipe("execution", breed, &format!("  file_actions: execve\n{fields}")));
            proves(&recipe("file_access_and_execution", breed, fields));
        }
    }

    #[test]
    fn conditions_on_flows_hold_together() {
        let fields = "
  protocol: tcp
  remote_port: [443, 8443]
  local_port: 0
  remote_cidrs: [192.0.2.0/24, 2001:db8::/32]
  remote_ips: 198.51.100.7
  flow_actions: outgoing|incoming
  flow_actions_excl: ended
  examples:
    fires:
      - { flow: 'tcp 10.0.0.1:1 -> 192.0.2.9:443' }
      - { flow: 'tcp 10.0.0.1:1 -> 198.51.100.7:8443', actions: incoming }
      - { flow: 'tcp [::1]:1 -> [2001:db8::9]:443' }
    silent:
      - { flow: 'udp 10.0.0.1:1 -> 192.0.2.9:443' }
      - { flow: 'tcp 10.0.0.1:1 -> 192.0.2.9:80' }
      - { flow: 'tcp 10.0.0.1:1 -> 192.0.3.9:443' }
      - { flow: 'tcp 10.0.0.1:1 -> 192.0.2.9:443', actions: egress }
      - { flow: 'tcp 10.0.0.1:1 -> 192.0.2.9:443', actions: [outgoing, ended] }
";
        proves(&recipe("network_flows", "remote_cidrs", fields));
    }

    #[test]
    fn peers_match_names_and_addresses_of_the_answer() {
        let fields = "
  remote_cidrs: [192.0.2.0/24]
  examples:
    fires: [{ names: [a.example], addresses: [198.51.100.1, 192.0.2.1] }]
    silent: [{ names: [a.example], addresses: [198.51.100.1] }]
";
        proves(&recipe("network_peers", "remote_ips", fields));
        let fields = "
  remote_domains: [b.example]
  examples:
    fires: [{ names: [a.example, b.example] }]
    silent: [{ names: [a.example, c.b.example] }]
";
        proves(&recipe("network_peers", "remote_domains", fields));
    }

    #[test]
    fn variables_match_by_name_and_value() {
        for key in ["env_vars", "envs"] {
            let fields = format!(
                "  {key}: [A, B]\n  pattern: ^/tmp\n  examples:\n    fires: [{{ env: B=/tmp/x }}]\n    \
                 silent: [{{ env: A=x/tmp }}, {{ env: C=/tmp }}]\n"
            );
            proves(&recipe("env_vars", "env_vars", &fields));
        }
    }

    #[test]
    fn an_empty_list_matches_nothing() {
        let fields = "  remote_cidrs: []\n  examples: { silent: [{ flow: 'tcp 10.0.0.1:1 -> 192.0.2.9:443' }] }\n";
        proves(&recipe("network_flows", "remote_cidrs", fields));
    }

    #[test]
    fn scores_are_given_or_follow() {
        let score = |fields: &str| {
            let read = good(&recipe("file_access", "file_access", fields));
            (read[0].severity, read[0].severity_level, read[0].confidence)
        };
        assert_eq!(score(""), (15, Level::Low, None), "that of the importance");
        assert_eq!(score("  severity_level: critical\n"), (90, Level::Critical, None));
        assert_eq!(score("  severity: 61\n  confidence: 0.5\n"), (61, Level::High, Some(0.5)));
    }

    #[test]
    fn reactions_are_kept_as_written() {
        let fields =
            "  reactions:\n    - format: js\n      code: |\n        function process(data) {}\n";
        let read = good(&recipe("file_access", "file_access", fields));
        assert_eq!(&*read[0].reactions[0].format, "js");
        assert_eq!(&*read[0].reactions[0].code, "function process(data) {}\n");
    }

    #[test]
    fn labels_get_ids_and_doubts_are_notices() {
        let label = |fields: &str| {
            let parsed = parse("t.yaml", &recipe("file_access", "file_access", fields));
            assert!(parsed.problems.is_empty(), "{}", lines(&parsed.problems));
            let attack = parsed.recipes[0].attack.clone();
            let ids = [attack.tactic, attack.technique, attack.subtechnique]
                .map(|label| label.and_then(|label| label.id).unwrap_or("-"));
            (ids, parsed.notices.len())
        };
        let known = "  tactic: persistence\n  technique: hijack_execution_flow\n  subtechnique: dynamic_linker_hijacking\n";
        assert_eq!(label(known), (["TA0003", "T1574", "T1574.006"], 0));
        let elsewhere = "  tactic: impact\n  technique: brute_force\n";
        assert_eq!(label(elsewhere), (["TA0040", "T1110", "-"], 1));
        assert_eq!(label("  tactic: impakt\n"), (["-", "-", "-"], 1));
        assert_eq!(label("  tactic: example\n  technique: none\n"), (["-", "-", "-"], 0));
    }

    #[test]
    fn patterns_are_those_of_go() {
        let fields = "
  regex: '^/\\d\\w\\s?$'
  examples:
    fires: [{ file: /1a }, { file: '/1_ ' }]
    silent: [{ file: /١a }, { file: /1ä }, { file: \"/1a\\u00a0\" }]
";
        proves(&recipe("file_access", "file_access", fields));
    }

    #[test]
    fn an_example_that_does_not_hold_is_said() {
        let fields = "  base: x\n  examples:\n    fires:\n      - { file: /y }\n    silent:\n      - { file: /x }\n";
        let read = good(&recipe("file_access", "file_access", fields));
        let problems = check_examples(&read[0]);
        let places: Vec<_> = problems.iter().map(|p| (p.line, p.key.as_str())).collect();
        assert_eq!(places, [(11, "[0].examples.fires[0]"), (13, "[0].examples.silent[0]")]);
    }

    #[test]
    fn the_file_may_have_to_be_the_program_itself() {
        let fields = "
  file_is: [task_exe, parent_exe]
  examples:
    fires: [{ file: /a, exe: /a }, { file: /a, exe: /b, parents: [/a] }]
    silent: [{ file: /a, exe: /b, parents: [/c, /a] }]
";
        proves(&recipe("file_access", "file_access", fields));
    }
}

mod mistakes {
    use super::*;

    #[test]
    fn all_of_a_file_are_said_at_once_with_their_lines() {
        let text = fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/recipes/mistakes.yaml"
        ))
        .expect("the fixture");
        // The fixture says itself what is wrong: `# ! key: words of the message`.
        let expected: BTreeSet<(usize, String)> = (1..)
            .zip(text.lines())
            .flat_map(|(line, text)| {
                let said = text.split_once("# !").map(|(_, said)| said.split(';').collect());
                let said: Vec<&str> = said.unwrap_or_default();
                said.into_iter().map(move |said| (line, said.trim().to_owned()))
            })
            .collect();
        let mut left = expected.clone();
        let mut surplus = Vec::new();
        for (line, key, message) in wrong(&text) {
            let hit = left.iter().find(|(at, said)| {
                let (part, words) = said.split_once(':').unwrap_or((said, ""));
                *at == line && key.ends_with(part.trim()) && message.contains(words.trim())
            });
            match hit.cloned() {
                Some(hit) => drop(left.take(&hit)),
                None => surplus.push(format!("{line} {key}: {message}")),
            }
        }
        assert!(
            left.is_empty() && surplus.is_empty(),
            "not said: {left:#?}\nsurplus: {surplus:#?}"
        );
        assert!(expected.len() > 40, "{}", expected.len());
    }

    #[test]
    fn a_broken_recipe_leaves_its_neighbours() {
        let one = recipe("file_access", "file_access", "");
        let text = format!("{one}{}{one}", one.replace("low", "lowish"));
        let parsed = parse("t.yaml", &text);
        assert_eq!((parsed.recipes.len(), parsed.problems.len()), (2, 1));
    }

    #[test]
    fn what_is_no_list_or_no_yaml() {
        assert_eq!(wrong("a: 1\n")[0].2, "expected a list of recipes, found a mapping");
        let (line, _, message) = wrong("- a: [1\n- b: 2\n").remove(0);
        assert!(line >= 2 && message.contains("not valid YAML"), "{line} {message}");
        assert!(wrong(&"[".repeat(200))[0].2.contains("nested"));
    }
}

mod filters {
    use super::*;

    /// Whether a recipe with these groups keeps an event of an executable `exe`.
    fn keeps(groups: &str, exe: &str) -> bool {
        let fields = format!(
            "  arbitrary: {groups}\n  examples:\n    fires: [{{ file: /x, exe: {exe} }}]\n"
        );
        let read = good(&recipe("file_access", "file_access", &fields));
        check_examples(&read[0]).is_empty()
    }

    /// Two items, on an `a` and on a `b` in the name of the executable.
    fn group(which: &str, how: &str, a: &str, b: &str, more: &str) -> String {
        let item = |letter, which| format!("{{ what: exe, which: {which}, pattern: {letter} }}");
        format!(
            "[{{ which: {which}, how: {how}{more}, items: [{}, {}] }}]",
            item("a", a),
            item("b", b)
        )
    }

    #[test]
    fn the_truth_table() {
        const P: &str = "pertinent";
        const I: &str = "irrelevant";
        // Kept for: neither item matches, only a, only b, both.
        let table = [
            (I, "OR", P, P, "", [false, true, true, true]),
            (I, "AND", P, P, "", [false, false, false, true]),
            (P, "OR", I, I, "", [true, false, false, false]),
            (P, "AND", I, I, "", [true, false, false, false]),
            (P, "AND", I, I, ", strict: true", [true, true, true, false]),
            (P, "OR", I, I, ", strict: true", [true, false, false, false]),
            (I, "OR", P, I, "", [false, true, false, false]),
            (I, "AND", P, I, "", [false, true, false, false]),
            (P, "OR", P, I, "", [true, true, false, true]),
            (P, "AND", P, I, "", [true, true, false, true]),
        ];
        for (which, how, a, b, more, expected) in table {
            let group = group(which, how, a, b, more);
            let kept = ["/x", "/a", "/b", "/ab"].map(|exe| keeps(&group, exe));
            assert_eq!(kept, expected, "{group}");
        }
    }

    #[test]
    fn all_groups_must_keep() {
        let one = "{ which: irrelevant, items: [{ what: exe, which: pertinent, pattern: a }] }";
        let two = "{ which: pertinent, items: [{ what: exe, which: irrelevant, pattern: b }] }";
        let both = format!("[{one}, {two}]");
        assert!(keeps(&both, "/a") && !keeps(&both, "/ab") && !keeps(&both, "/x"));
    }

    /// Whether an item alone matches the process of an example.
    fn item_matches(mechanism: &str, item: &str, example: &str) -> bool {
        let fields = format!(
            "  arbitrary: [{{ which: irrelevant, items: [{{ which: pertinent, {item} }}] }}]\n  \
             examples:\n    fires: [{{ {example} }}]\n"
        );
        let breed = if mechanism == "file_access" { mechanism } else { "network_flows" };
        check_examples(&good(&recipe(mechanism, breed, &fields))[0]).is_empty()
    }

    #[test]
    fn every_subject_of_a_process() {
        let process = "file: /x, exe: /opt/task, args: [task, one], comm: tk, uid: 7, prev_exe: /opt/prev, \
                       parents: [{ exe: /opt/parent, args: [parent, two] }, /opt/old, /opt/oldest]";
        let table = [
            ("exe", "^/opt/task$"),
            ("task_exe", "^/opt/task$"),
            ("cmd", "^task$"),
            ("comm", "^tk$"),
            ("args", "^task one$"),
            ("parent_exe", "^/opt/parent$"),
            ("parent_cmd", "^parent$"),
            ("parent_comm", "^parent$"),
            ("parent_args", "^parent two$"),
            ("task_or_parent_exe", "^/opt/parent$"),
            ("task_or_parent_args", "one"),
            ("task_or_prev_exe", "prev"),
            ("parent_or_prev_exe", "prev"),
            ("ancient_exe", "^/opt/oldest$"),
            ("any_ancient_cmd", "^old$"),
            ("ancient_args", "two"),
            ("file_path", "^/x$"),
            ("uid", "^7$"),
        ];
        for (what, pattern) in table {
            let item = format!("what: {what}, pattern: {pattern}");
            assert!(item_matches("file_access", &item, process), "{item}");
        }
        for item in ["what: ancient_exe, pattern: task", "what: parent_exe, pattern: old"] {
            assert!(!item_matches("file_access", item, process), "{item}");
        }
    }

    #[test]
    fn numbers_addresses_and_flows() {
        let flow = "flow: 'tcp 10.0.0.2:40000 -> 192.0.2.1:443', uid: 7";
        for item in [
            "what: uid, number: 7",
            "what: uid, numbers: [1, 7]",
            "what: uid, number: 8, when: smaller",
            "what: flow_remote_ports, number: 443",
            "what: flow_any_ports, number: 39999, when: bigger",
            "what: flow_remote, cidr: 192.0.2.0/24",
            "what: flow_any_peers, cidr: 10.0.0.0/8",
            "what: flow_any_peers_and_ports, pattern: '^192\\.0\\.2\\.1:443$'",
            "what: flow_proto, pattern: ^tcp$",
            "what: flow_family, pattern: ipv4",
        ] {
            assert!(item_matches("network_flows", item, flow), "{item}");
        }
        for item in [
            "what: uid, number: 7, when: bigger",
            "what: flow_local, cidr: 192.0.2.0/24",
            "what: task_ret_code, number: 0",
            "what: task_exit, time: 10s, when: smaller",
        ] {
            assert!(!item_matches("network_flows", item, flow), "{item}");
        }
    }
}

mod detector {
    use super::*;
    use raqib::detect::Example;
    use std::time::Duration;

    fn load(dir: &Path, events: Option<&[String]>) -> Arc<Ruleset> {
        let (ruleset, problems) = Ruleset::load(false, &[dir.to_path_buf()], events);
        assert!(problems.is_empty(), "{}", lines(&problems));
        Arc::new(ruleset)
    }

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn kinds(recipes: &[Arc<Recipe>]) -> Vec<&str> {
        recipes.iter().map(|recipe| &*recipe.name).collect()
    }

    fn named(name: &str, fields: &str) -> String {
        recipe("file_access", "file_access", fields)
            .replace("kind: k", &format!("kind: {name}"))
            .replace("name: n", &format!("name: {name}"))
    }

    fn example(text: &str) -> Example {
        let fields = format!("  examples: {{ fires: [{{ {text} }}] }}\n");
        let mut parsed = parse("t.yaml", &recipe("file_access", "file_access", &fields));
        parsed.recipes.remove(0).examples.remove(0)
    }

    #[test]
    fn directories_are_read_in_order_and_in_depth() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "b.yaml", &named("b", ""));
        write(dir.path(), "a/z.yml", &named("z", ""));
        write(dir.path(), "a/notes.txt", "no recipe");
        write(dir.path(), ".git/x.yaml", "no recipe");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("c")).expect("a loop");
        let (ruleset, problems) = Ruleset::load(false, &[dir.path().to_path_buf()], None);
        let names = kinds(ruleset.recipes());
        assert_eq!(&names[..2], ["z", "b"]);
        assert!(problems.iter().any(|p| p.message.contains("directories deep")), "{problems:?}");
        let missing = dir.path().join("none");
        let (ruleset, problems) = Ruleset::load(false, &[missing], None);
        assert!(problems.is_empty() && ruleset.notices().len() == 1);
    }

    #[test]
    fn files_that_cannot_be_read_are_problems() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("a.yaml"), b"- \xff").expect("written");
        let large = fs::File::create(dir.path().join("b.yaml")).expect("created");
        large.set_len((16 << 20) + 1).expect("a sparse file");
        let (_, problems) = Ruleset::load(false, &[dir.path().to_path_buf()], None);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(messages[0].contains("UTF-8") && messages[1].contains("larger"), "{messages:?}");
    }

    #[test]
    fn enabled_and_events_decide_who_takes_part() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "a.yaml", &named("on", ""));
        write(dir.path(), "b.yaml", &named("off", "  enabled: false\n"));
        let ruleset = load(dir.path(), None);
        assert_eq!(
            (kinds(ruleset.recipes()), kinds(ruleset.inactive())),
            (vec!["on"], vec!["off"])
        );
        let ruleset = load(dir.path(), Some(&["off".into()]));
        assert_eq!(kinds(ruleset.recipes()), ["on", "off"], "one's own need not be listed");
        let listed = ["flow".to_string(), "ssh_auth_keys_modification".into()];
        let (ruleset, _) = Ruleset::load(true, &[dir.path().to_path_buf()], Some(&listed));
        let names = kinds(ruleset.recipes());
        assert_eq!(names, ["ssh_authorized_keys_modification", "flow", "on"]);
        let (ruleset, _) = Ruleset::load(true, &[], Some(&[]));
        assert!(ruleset.recipes().is_empty() && !ruleset.inactive().is_empty());
    }

    #[test]
    fn later_sources_replace_earlier_ones() {
        let dir = tempfile::tempdir().expect("a directory");
        let off = named("core_pattern_access", "  enabled: false\n");
        write(dir.path(), "a.yaml", &off);
        let (ruleset, _) = Ruleset::load(true, &[dir.path().to_path_buf()], None);
        assert!(!kinds(ruleset.recipes()).contains(&"core_pattern_access"));
        assert!(kinds(ruleset.inactive()).contains(&"core_pattern_access"));
    }

    #[test]
    fn what_the_kernel_should_look_for() {
        let dir = tempfile::tempdir().expect("a directory");
        write(
            dir.path(),
            "a.yaml",
            &named("a", "  file_actions: [open, read]\n  file_actions_excl: mmap\n"),
        );
        write(dir.path(), "b.yaml", &named("b", "  enabled: false\n  file_actions: unlink\n"));
        let ruleset = load(dir.path(), None);
        assert_eq!(ruleset.wanted_actions().0, (1 << 5) | (1 << 6) | (1 << 4));
        let names: Vec<String> = shipped().watched_env_names().into_iter().collect();
        assert_eq!(names, ["LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"]);
    }

    #[test]
    fn limits_hold_and_outlive_a_reload_of_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let limited = "  base: x\n  times: [{ kind: times_per_exe, max: 2 }]\n";
        write(dir.path(), "a.yaml", &named("a", limited));
        let mut detector = Detector::new(load(dir.path(), None), Mechanism::FileAccess);
        let mut example = example("file: /x, exe: /bin/a");
        example.event.count = 1000;
        let notes = |detector: &mut Detector| -> Vec<Option<String>> {
            let verdicts = detector.judge(&example.event, &example.process);
            verdicts.into_iter().map(|verdict| verdict.note).collect()
        };
        assert_eq!(notes(&mut detector), [None], "a thousand repeats are one");
        assert_eq!(notes(&mut detector), [Some("Last 2 for this executable.".into())]);
        assert!(notes(&mut detector).is_empty());
        write(dir.path(), "0.yaml", &named("other", "  base: y\n"));
        detector.reload(load(dir.path(), None));
        assert!(notes(&mut detector).is_empty(), "the recipe is the same, at another index");
        write(dir.path(), "a.yaml", &named("a", &limited.replace("max: 2", "max: 3")));
        detector.reload(load(dir.path(), None));
        assert_eq!(notes(&mut detector), [None], "a changed recipe counts anew");
    }

    #[test]
    fn events_of_other_mechanisms_find_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "a.yaml", &named("a", ""));
        let ruleset = load(dir.path(), None);
        let example = example("file: /x");
        let mut found = vec![9];
        Detector::new(ruleset.clone(), Mechanism::Execution).candidates(&example.event, &mut found);
        assert!(found.is_empty());
        Detector::new(ruleset, Mechanism::FileAccess).candidates(&example.event, &mut found);
        assert_eq!(found, [0]);
    }

    #[test]
    fn the_cache_answers_as_the_index_does() {
        let ruleset = Arc::new(shipped());
        let mut warm = Detector::new(ruleset.clone(), Mechanism::FileAccess);
        let all = ruleset.recipes().iter().flat_map(|recipe| &recipe.examples);
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for example in all.filter(|example| example.event.mechanism == Mechanism::FileAccess) {
            let mut cold = Detector::new(ruleset.clone(), Mechanism::FileAccess);
            cold.candidates(&example.event, &mut first);
            for _ in 0..2 {
                warm.candidates(&example.event, &mut again);
                assert_eq!(first, again);
            }
        }
    }

    /// Prints nanoseconds for an event that concerns nobody, and for a path seen first.
    /// `cargo test --release --test recipes -- --ignored --nocapture nanoseconds`
    #[test]
    #[ignore = "a measurement, not a check"]
    fn nanoseconds() {
        let ruleset = Arc::new(shipped());
        let mut detector = Detector::new(ruleset, Mechanism::FileAccess);
        let base = example("file: /x, actions: open|read|close").event;
        let with = |n: usize| {
            let mut event = base.clone();
            if let raqib::event::Body::File(file) = &mut event.body {
                let path = format!("/usr/lib/python3/dist-packages/package{n}/module{n}.py");
                file.path = path.as_str().into();
            }
            event
        };
        let events: Vec<_> = (0..10_000).map(with).collect();
        let mut found = Vec::new();
        let mut run = |label: &str, rounds: u32| {
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                for event in &events {
                    detector.candidates(event, &mut found);
                    assert!(found.is_empty());
                }
            }
            let each = start.elapsed() / (rounds * 10_000).max(1);
            println!("{label}: {} ns/event", each.as_nanos());
            assert!(each < Duration::from_millis(1));
        };
        run("path seen first", 1);
        run("path in the cache (10,000 of them)", 100);
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_text_panics(text in "\\PC{0,300}") {
            parse("t.yaml", &text);
        }

        /// Good files with a few bytes changed reach deeper than noise does.
        #[test]
        fn no_damaged_recipe_panics(cut in 0_usize..9000, put in "\\PC{0,6}|[-:{}\\[\\]&*!|>'\"\n ]{1,4}", skip in 0_usize..12) {
            let text = include_str!("fixtures/recipes/mistakes.yaml");
            let mut bytes: Vec<char> = text.chars().collect();
            let cut = cut.min(bytes.len());
            let end = (cut + skip).min(bytes.len());
            bytes.splice(cut..end, put.chars());
            parse("t.yaml", &bytes.into_iter().collect::<String>());
        }

        #[test]
        fn no_value_panics(field in "kind|base|dir|regex|bases|file_actions|times|arbitrary|severity|tactic|examples|enabled|file_is", value in "\\PC{0,40}") {
            parse("t.yaml", &recipe("file_access", "file_access", &format!("  {field}: {value}\n")));
        }
    }

    #[test]
    fn many_large_patterns_are_refused_in_time() {
        let places: String =
            (0..400).map(|n| format!("    - regex: '(?:x{{{n}}}[a-z]{{900}}){{20}}'\n")).collect();
        let said = wrong(&recipe("file_access", "file_access", &format!("  bases:\n{places}")));
        let last = &said.last().expect("mistakes").2;
        assert!(last.contains("together are too large"), "{} {last}", said.len());
    }

    #[test]
    fn long_lists_are_read() {
        let nets: String =
            (0..60_000_u32).map(|n| format!("    - 10.{}.{}.1/32\n", n >> 8, n & 255)).collect();
        let text = recipe("network_flows", "remote_cidrs", &format!("  remote_cidrs:\n{nets}"));
        assert_eq!(good(&text).len(), 1);
    }
}
