//! Command lines that are refused before anything is sent, each with what is said of it.

use serde_json::json;

use crate::cloud::Ended;
use crate::fake::{Fake, TOKEN, ok};

/// Lines with what is said of them; all end with exit code 2. A word of `""` is an empty argument.
const REFUSED: &[(&str, &str)] = &[
    // Unknown and misspelt.
    ("", "Usage"),
    ("rack", "Usage"),
    ("rak list", "unrecognized subcommand"),
    ("rack lst", "unrecognized subcommand"),
    ("racklist", "unrecognized subcommand"),
    ("rack list --colour red", "unexpected argument"),
    ("rack list -z", "unexpected argument"),
    ("rack list extra", "unexpected argument"),
    ("--colour rack list", "unexpected argument"),
    ("rack --limit 5 list", "unexpected argument"),
    ("rack list --Limit 5", "unexpected argument"),
    ("rack list --limi 5", "unexpected argument"),
    ("status extra", "unexpected argument"),
    ("whoami --user ada", "unexpected argument"),
    ("apply racks.yaml", "unexpected argument"),
    ("context", "Usage"),
    ("context forget x", "unrecognized subcommand"),
    ("upgrade", "Usage"),
    ("config", "Usage"),
    ("auth", "Usage"),
    ("vm create web-1 --password hush", "unexpected argument"),
    (
        "login --endpoint c1 --ca ca.pem --user a --password hush",
        "unexpected argument",
    ),
    // Twice.
    ("rack list --limit 5 --limit 6", "multiple times"),
    ("rack list -o json -o yaml", "multiple times"),
    ("rack list --context a --context b", "multiple times"),
    ("vm create web-1 --wait --wait", "multiple times"),
    ("vm create web-1 --cpu 1 --cpu 2", "multiple times"),
    (
        "vm create web-1 --idempotency-key a --idempotency-key b",
        "multiple times",
    ),
    ("vm stop web-1 --force --force", "multiple times"),
    ("audit --export --export", "multiple times"),
    // Against each other.
    ("vm create web-1 --wait --no-wait", "cannot be used with"),
    ("rack list --watch --limit 5", "cannot be used with"),
    ("audit --limit 5 --export", "cannot be used with"),
    ("vm create web-1 -f vms.yaml", "cannot be used with"),
    (
        "login --endpoint c1 --ca a --ca-fingerprint b --user c",
        "cannot be used with",
    ),
    ("vm delete web-1 --selector a=b", "cannot be used with"),
    ("rack list --timeout 5s", "--watch"),
    // Without a value, or without what is needed.
    ("rack list --limit", "a value is required"),
    ("rack list -o", "a value is required"),
    ("rack list --context", "a value is required"),
    ("vm create web-1 --cpu", "a value is required"),
    ("vm create web-1 --wait=yes", "unexpected value"),
    ("apply", "required"),
    ("apply -f", "a value is required"),
    ("rack get", "required"),
    ("rack create", "required"),
    ("rack delete", "required"),
    ("explain", "required"),
    ("completions", "required"),
    ("diff", "required"),
    ("can-i", "required"),
    ("login --user a --ca ca.pem", "--endpoint"),
    ("login --endpoint c1 --ca ca.pem", "--user"),
    ("login --endpoint c1 --user a", "--ca-fingerprint"),
    // Empty.
    ("rack get \"\"", "a value is required"),
    ("rack delete \"\"", "a value is required"),
    ("rack update \"\" --as-number 7", "a value is required"),
    ("vm stop \"\"", "a value is required"),
    ("vm get .", "names nothing"),
    ("vm get ..", "names nothing"),
    ("vm list --tenant \"\"", "a value is required"),
    ("vm list --tenant=", "a value is required"),
    ("vm delete --tenant \"\"", "a value is required"),
    ("rack list --data-center \"\"", "a value is required"),
    ("vm create web-1 --spec \"\"", "a value is required"),
    ("vm create web-1 --idempotency-key \"\"", "a key is"),
    ("rack list --limit \"\"", "--limit"),
    ("rack list -o \"\"", "one of table"),
    ("vm create web-1 --cpu \"\"", "cpu"),
    ("vm create web-1 --memory \"\"", "memory"),
    ("\"\"", "unrecognized subcommand"),
    ("rack \"\"", "unrecognized subcommand"),
    ("explain \"\"", "kind"),
    ("can-i \"\"", "no permission"),
    // Units and numbers.
    ("rack list --limit 0", "--limit"),
    ("rack list --limit -1", "unexpected argument"),
    ("rack list --limit 100001", "--limit"),
    ("rack list --limit 5.5", "--limit"),
    ("rack list --limit 99999999999999999999", "--limit"),
    ("rack list --limit 0x10", "--limit"),
    ("vm create web-1 --cpu two", "cpu"),
    ("vm create web-1 --cpu -2", "unexpected argument"),
    ("vm create web-1 --cpu 1e3", "cpu"),
    ("vm create web-1 --memory 5", "memory"),
    ("vm create web-1 --memory 5XiB", "memory"),
    ("vm create web-1 --memory GiB", "memory"),
    ("vm create web-1 --memory -1GiB", "unexpected argument"),
    ("vm create web-1 --memory 99999999999999999999TiB", "memory"),
    ("vm create web-1 --memory 1GiB2", "memory"),
    ("vm create web-1 --memory NaN", "memory"),
    ("vm create web-1 --timeout soon", "--timeout"),
    ("vm create web-1 --timeout 5", "--timeout"),
    ("vm create web-1 --timeout -5s", "unexpected argument"),
    ("vm create web-1 --timeout 5y", "--timeout"),
    (
        "vm create web-1 --timeout 99999999999999999999d",
        "--timeout",
    ),
    ("vm create web-1 --restart sometimes", "--restart"),
    ("vm create web-1 --label a", "label"),
    ("vm create web-1 --set cpu", "set"),
    ("vm create web-1 --set =5", "set"),
    ("rack update r1 --as-number seven", "as-number"),
    ("rack update r1", "nothing is to be changed"),
    ("rack update r1 --if-match now", "--if-match"),
    ("rack update r1 --if-match -1", "unexpected argument"),
    (
        "quota create --group g --tenant t --cpu-percent lots",
        "cpu-percent",
    ),
    ("vm console web-1 --log --bytes 0", "--bytes"),
    ("vm console web-1 --log --bytes 1048577", "--bytes"),
    ("support-bundle --max-size 0", "--max-size"),
    ("support-bundle --max-size 1025", "--max-size"),
    ("audit --outcome perhaps", "--outcome"),
    ("audit verify --head 7:ab", "--head"),
    ("audit verify --head x", "--head"),
    ("completions tcsh-of-old", "tcsh-of-old"),
    ("explain spaceship", "spaceship"),
    ("explain vm.colour", "colour"),
    ("can-i fly", "no permission"),
    // Forms.
    ("rack list -o html", "one of table"),
    ("rack list -o JSON", "one of table"),
    ("rack list -o custom-columns", "one of table"),
    ("rack list -o custom-columns=", "custom-columns"),
    ("rack list -o custom-columns=A", "custom-columns"),
    ("rack list -o custom-columns=A:", "custom-columns"),
    ("vm console web-1 --log --follow -o json", "--follow"),
    // Addresses.
    (
        "login --endpoint http://c1:8443 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint ftp://c1 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https:// --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://c1:0 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://c1:65536 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://c1:port --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://c1:8443/api --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://me:hush@c1:8443 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://[::1 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint https://[::g]:1 --ca ca.pem --user a",
        "no endpoint",
    ),
    (
        "login --endpoint fd00::1:2 --ca ca.pem --user a",
        "no endpoint",
    ),
    ("login --endpoint \"\" --ca ca.pem --user a", "endpoint"),
    ("login --endpoint c1,,c2 --ca ca.pem --user a", "endpoint"),
    (
        "login --endpoint 127.0.0.1:1 --ca-fingerprint 00 --user a",
        "fingerprint",
    ),
    (
        "login --endpoint 127.0.0.1:1 --ca-fingerprint \"\" --user a",
        "fingerprint",
    ),
    (
        "login --endpoint 127.0.0.1:1 --ca-fingerprint xyz --user a",
        "fingerprint",
    ),
    // Behind `--` all is a value.
    ("rack list -- --limit 5", "unexpected argument"),
    ("-- rack list", "unexpected argument"),
    ("rack get -- r1 -o json", "unexpected argument"),
    ("rack -- list", "unexpected argument"),
];

/// Words of a line; `""` is an empty one.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split(' ')
        .filter(|word| !word.is_empty())
        .map(|word| if word == "\"\"" { "" } else { word })
        .collect()
}

pub(crate) fn check(what: &str, ended: &Ended, code: i32, why: &str) {
    assert_eq!(ended.code, code, "{what}: {ended:?}");
    assert!(ended.err.contains(why), "{what}: {ended:?}");
    assert!(ended.out.is_empty(), "{what}: {ended:?}");
    assert!(!ended.err.contains("panicked"), "{what}: {ended:?}");
    assert!(!ended.err.contains(TOKEN), "{what}: {ended:?}");
    assert!(ended.err.len() < 8192, "{what}: {} bytes", ended.err.len());
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!ended.err.contains(control), "{what}: {ended:?}");
}

async fn refused(part: usize) {
    let fake = Fake::start(|_| ok(json!([]))).await;
    fake.write("ca.pem", &fake.ca);
    for (line, why) in REFUSED.iter().skip(part).step_by(4) {
        let ended = fake.run(&words(line)).await;
        check(line, &ended, 2, why);
        assert_eq!(fake.calls(), [], "{line}: it was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_refused_1() {
    refused(0).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_refused_2() {
    refused(1).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_refused_3() {
    refused(2).await;
}
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_refused_4() {
    refused(3).await;
}
