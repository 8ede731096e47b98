//! Command lines made at random, of words that mean something and of others. Whatever they say: no panic, an exit code
//! that is documented, and nothing sent to anybody.
//!
//! They are carried out in a process of their own, which has this machine's place for a contexts file and standard
//! streams to itself.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::grammar;

/// Command lines of one run.
const CASES: u32 = 2000;
/// Set in the process that carries them out.
const CHILD_VARIABLE: &str = "VIRTFLOW_TEST_INPUTS";

/// Values, good ones and others.
const VALUES: &[&str] = &[
    "",
    "x",
    "web-1",
    "-",
    "--",
    "-x",
    "--x",
    "=",
    "a=b",
    "a=",
    "=b",
    ".",
    "..",
    "../x",
    "/dev/null",
    "absent.yaml",
    "5",
    "0",
    "-1",
    "1GiB",
    "1XiB",
    "90s",
    "soon",
    "true",
    "json",
    "yaml",
    "wide",
    "custom-columns=A:.a",
    "7..9",
    "7..",
    "{}",
    "[1]",
    "virtual_machine.read",
    "vm.memory_mib",
    "ü",
    "\u{1b}[31m",
    "\u{202e}",
    "a\nb",
    "18446744073709551616",
    "127.0.0.1",
];
/// Commands that look around on this machine, or ask whomever the line names.
const LEFT_OUT: &[&str] = &["support-bundle", "login"];

/// A command: its words, and the options it takes.
#[derive(Debug, Clone)]
struct Known {
    words: Vec<String>,
    options: Vec<String>,
}

fn all() -> Vec<Known> {
    fn walk(command: &clap::Command, before: &[String], all: &mut Vec<Known>) {
        let options = command.get_arguments().filter_map(|arg| arg.get_long());
        let options = options.map(|long| format!("--{long}")).collect();
        all.push(Known {
            words: before.to_vec(),
            options,
        });
        for inner in command.get_subcommands() {
            if !LEFT_OUT.contains(&inner.get_name()) {
                let mut words = before.to_vec();
                words.push(inner.get_name().to_owned());
                walk(inner, &words, all);
            }
        }
    }
    let mut whole = grammar::command();
    whole.build();
    let mut found = Vec::new();
    walk(&whole, &[], &mut found);
    found
}

fn value() -> impl Strategy<Value = OsString> {
    prop_oneof![
        8 => select(VALUES).prop_map(OsString::from),
        1 => proptest::collection::vec(1..=255_u8, 0..12).prop_map(OsString::from_vec),
        1 => any::<String>().prop_map(|text| text.replace('\0', "").into()),
        1 => Just("x".repeat(2000).into()),
    ]
}

fn option(known: &Known) -> BoxedStrategy<Vec<OsString>> {
    let mut options = known.options.clone();
    options.extend([
        "-o".into(),
        "--output".into(),
        "--context".into(),
        "-f".into(),
    ]);
    let alone = select(options.clone()).prop_map(|option| vec![option.into()]);
    let with =
        (select(options.clone()), value()).prop_map(|(option, value)| vec![option.into(), value]);
    let joined = (select(options), value()).prop_map(|(option, value)| {
        let mut word = OsString::from(format!("{option}="));
        word.push(value);
        vec![word]
    });
    let bare = value().prop_map(|value| vec![value]);
    prop_oneof![2 => alone, 5 => with, 2 => joined, 3 => bare].boxed()
}

fn line() -> impl Strategy<Value = Vec<OsString>> {
    select(all())
        .prop_flat_map(|known| {
            let options = proptest::collection::vec(option(&known), 0..6);
            (Just(known), options, any::<prop::sample::Index>())
        })
        .prop_map(|(known, options, at)| {
            let mut line: Vec<OsString> = known.words.iter().map(OsString::from).collect();
            // Options may stand before a command's words, too.
            let begin = line.len();
            for (n, words) in options.into_iter().enumerate() {
                let place = if n == 0 {
                    at.index(begin + 1)
                } else {
                    line.len()
                };
                line.splice(place..place, words);
            }
            line.insert(0, "virtflow".into());
            line
        })
}

fn documented() -> Vec<u8> {
    let help = grammar::command().render_long_help().to_string();
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let lines = codes.lines().map_while(|line| match line.trim() {
        "Environment:" => None,
        line => Some(
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
    });
    lines.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_documented_exit_codes_are_these() {
    assert_eq!(
        documented(),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 130, 143]
    );
}

#[test]
fn whatever_is_typed() {
    if std::env::var_os(CHILD_VARIABLE).is_some() {
        return carry_out_all();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let contexts = format!(
        "current = \"work\"\n[contexts.work]\nendpoints = [\"https://{}\"]\nca = \"none\"\ntoken = \"vft1.hush.hush\"\n",
        listener.local_addr().unwrap()
    );
    let told = fs::File::create(folder.path().join("told")).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inputs::whatever_is_typed", "--nocapture"])
        .current_dir(folder.path())
        .env_clear()
        .env(CHILD_VARIABLE, contexts)
        .env("VIRTFLOW_CONFIG", folder.path().join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(told)
        .status()
        .unwrap();
    let told = fs::read(folder.path().join("told")).unwrap();
    let told = String::from_utf8_lossy(&told);
    let end: String = told
        .chars()
        .rev()
        .take(4000)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    assert!(status.success(), "{status}: {end}");
    assert!(!told.contains("hush"), "the token was told");
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert_eq!(told.find(obeyed), None, "a terminal would obey");
    listener.set_nonblocking(true).unwrap();
    let asked = listener.accept();
    assert_eq!(
        asked.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "somebody was asked"
    );
}

/// As no system passes it, and of a value, where the search for a likely command does not see it.
#[test]
fn an_argument_of_a_megabyte() {
    let long = "x".repeat(1 << 20);
    for line in [
        &["rack", "get", &long][..],
        &["rack", "list", "--limit", &long],
        &["rack", "list", "-o", &long],
        &["rack", "list", "--context", &long],
    ] {
        let line = std::iter::once("virtflow").chain(line.iter().copied());
        let code = crate::carry_out(line.map(OsString::from).collect()).tell();
        assert!([1, 2, 3, 4].contains(&code), "exit code {code}");
    }
}

fn carry_out_all() {
    let contexts = std::env::var(CHILD_VARIABLE).unwrap();
    let path = std::env::var("VIRTFLOW_CONFIG").unwrap();
    let codes = documented();
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&line(), |line| {
        // A line may forget a context, too.
        fs::write(&path, &contexts).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let code = crate::carry_out(line).tell();
        prop_assert!(codes.contains(&code), "exit code {}", code);
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{}", error.to_string().escape_debug());
    }
}
