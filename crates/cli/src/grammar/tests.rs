//! Lines that people write, and lines that are refused.

use virtflow_model::{ByPeople, Kind};

use super::*;

fn parse(line: &str) -> Result<ArgMatches, clap::Error> {
    command().try_get_matches_from(line.split_whitespace())
}

#[test]
fn the_grammar_is_sound() {
    // Commands of kinds are made when they are named: here, all of them.
    let mut whole = command();
    whole.build();
    whole.clone().debug_assert();
    let words: Vec<&str> = whole.get_subcommands().map(Command::get_name).collect();
    for kind in Kind::ALL {
        let word = nouns::of_kind(*kind).word;
        assert!(words.contains(&word), "{word}");
        let noun = whole.find_subcommand(word).unwrap();
        assert!(noun.find_subcommand("list").is_some(), "{word}");
    }
}

/// What people may remove can be removed from here.
#[test]
fn every_kind_that_people_remove_has_a_command_for_it() {
    for kind in Kind::ALL {
        let noun = of_noun(Command::new("it"), nouns::of_kind(*kind));
        let verbs = ["delete", "remove"];
        let has = verbs
            .iter()
            .any(|verb| noun.find_subcommand(verb).is_some());
        let is_never = matches!(kind.rules().delete, ByPeople::Never(_));
        assert_eq!(has, !is_never, "{}", kind.name());
    }
}

#[test]
fn lines_that_people_write() {
    for line in [
        "virtflow login --endpoint https://a:8443,https://b:8443 --ca-fingerprint 00 --user admin",
        "virtflow login --endpoint a --ca ca.pem --user admin --password-file - --context work",
        "virtflow tenant create acme --quota-cpu 8 --quota-memory 8GiB --quota-storage 100GiB --quota-vms 10 -o json",
        "virtflow data-center create dc1 --region r",
        "virtflow rack create r1 --data-center dc1",
        "virtflow group create g1 --data-center dc1 --cpu-overcommit 400",
        "virtflow quota create --group g1 --tenant acme --cpu-percent 50 --memory 4GiB --storage 50GiB",
        "virtflow quota list --tenant acme -o yaml",
        "virtflow user create alice --tenant acme --password-file f",
        "virtflow role-binding create --user alice --role developer --scope tenant/acme",
        "virtflow spec create small --cpu 1 --memory 128MiB --storage 1GiB",
        "virtflow invite create --group g1 --rack r1 --serial S --name n --role agent --ttl 15m -o json",
        "virtflow vm create web-1 --spec small --group g1 --tenant acme --restart on-failure --wait --idempotency-key k",
        "virtflow -o json vm create web-1 --spec small --no-wait",
        "virtflow vm update web-1 --label a=1 --label b=2 --set grace_s=5 --unset labels.c --if-match 3",
        "virtflow vm stop web-1 --force --wait --timeout 90s",
        "virtflow vm console web-1 --log --bytes 100",
        "virtflow vm console web-1 --log --follow",
        "virtflow vm list --tenant t --host h --phase running --label a=b --limit 5",
        "virtflow vm ls -l env=prod,tier!=db --fields name,status.phase -o yaml",
        "virtflow vm ls --sort -created_at --search web",
        "virtflow vm ls --at 120 --phase running",
        "virtflow diff 120..180",
        "virtflow config effective genai.policy",
        "virtflow config effective genai.policy --at 4711",
        "virtflow config effective genai.policy --sub-scope tools --tenant acme --user alice -o json",
        "virtflow tenant-config reveal 0190 --tenant acme",
        "virtflow system-config reveal 0190",
        "virtflow ontology lookup domain shop --version 1.0.0 --tenant acme",
        "virtflow ontology merge --base core --domain shop --domain law@2.0.0 --major trade",
        "virtflow diff 120.. vm web-1 --tenant acme -o json",
        "virtflow vm ls --selector env --label a=b",
        "virtflow vm get web-1 --fields status.phase",
        "virtflow operation get 0190 --fields status.state",
        "virtflow vm ls",
        "virtflow vm rm web-1 --wait",
        "virtflow vm rm web-1 web-2 --all-or-none --tenant acme --wait",
        "virtflow vm create -f vms.yaml -f more --all-or-none --tenant acme --wait --idempotency-key k",
        "virtflow quota create --file -",
        "virtflow user create -f users.json",
        "virtflow virtual-machine get web-1",
        "virtflow hosts list",
        "virtflow rack list --data-center dc1",
        "virtflow host ls --rack r1 --state offline",
        "virtflow vm ls --spec small",
        "virtflow role-binding list --user alice --role developer",
        "virtflow token list --user alice",
        "virtflow host delete h1 --force",
        "virtflow host cordon h1",
        "virtflow host domains h1 -o json",
        "virtflow vm adopt h1 old --tenant acme --name web-9 --user-group lab --restart always --label a=1 --wait",
        "virtflow vm adopt h1 0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11 --dry-run",
        "virtflow token create ci --expires 90d --permission virtual_machine.read --save-context ci",
        "virtflow operation wait 0190 --timeout 5m",
        "virtflow controller add c4 --ttl 1h",
        "virtflow controller hand-over",
        "virtflow upgrade status -o yaml",
        "virtflow upgrade finish --dry-run",
        "virtflow upgrade finish --yes",
        "virtflow audit --limit 10 --from 2026-11-23T18:00:00Z",
        "virtflow audit --export",
        "virtflow audit verify",
        "virtflow audit verify --file - -o json",
        "virtflow audit verify --head 7:abababababababababababababababababababababababababababababababab",
        "virtflow can-i virtual_machine.execute web-1",
        "virtflow auth who-can delete vm web-1 --tenant acme --limit 20",
        "virtflow auth who-can create user_group",
        "virtflow auth explain delete vm web-1 --user dave",
        "virtflow auth can-i virtual_machine.execute web-1",
        "virtflow role catalogue",
        "virtflow user passwd alice --own",
        "virtflow context use ci",
        "virtflow completions zsh",
        "virtflow completions bash --names",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn lines_that_are_refused() {
    for line in [
        "virtflow",
        "virtflow vm",
        "virtflow vm create",
        "virtflow vm explode web-1",
        "virtflow upgrade",
        "virtflow vm create web-1 --restart sometimes",
        "virtflow vm create web-1 --wait --no-wait",
        "virtflow vm create web-1 --timeout 5",
        "virtflow vm update web-1 --cpu 4",
        "virtflow vm adopt h1",
        "virtflow vm adopt h1 old --cpu 4",
        "virtflow vm console web-1",
        "virtflow vm console web-1 --log --bytes 0",
        "virtflow vm console web-1 --log --bytes 1048577",
        "virtflow vm list --limit 0",
        "virtflow vm list --limit 100001",
        "virtflow vm list -o html",
        "virtflow quota list --name q",
        "virtflow rack list --tenant t",
        "virtflow operation create x",
        "virtflow controller delete c1",
        "virtflow host create h1",
        "virtflow login --endpoint a --user admin",
        "virtflow login --endpoint a --ca-fingerprint 00 --user admin --password secret",
        "virtflow vm delete web-1 --if-match now",
        "virtflow audit verify --head 7:ab",
        "virtflow audit --limit 10 verify",
        "virtflow vm create web-1 -f vms.yaml",
        "virtflow vm create -f vms.yaml --cpu 2",
        "virtflow vm create web-1 --spec small --all-or-none",
        "virtflow token create -f tokens.yaml",
        "virtflow token delete a b",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn an_idempotency_key_has_a_limit() {
    for (length, is_taken) in [(128, true), (129, false)] {
        let line = format!(
            "virtflow vm start a --idempotency-key {}",
            "k".repeat(length)
        );
        assert_eq!(parse(&line).is_ok(), is_taken, "{length}");
    }
}

/// What the model calls a kind, people may, too.
#[test]
fn every_word_for_a_kind_is_its_command() {
    for kind in Kind::ALL {
        for word in [kind.name(), kind.plural()].iter().chain(kind.aliases()) {
            let matches = parse(&format!("virtflow {word} list"));
            let matches = matches.unwrap_or_else(|error| panic!("{word}: {error}"));
            let (found, _) = matches.subcommand().unwrap();
            let noun = crate::nouns::of_word(found).unwrap();
            assert_eq!(noun.kind, *kind, "{word}");
        }
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn look(command: &Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let takes_value = argument.get_action().takes_values();
            let is_secret = ["password", "secret", "access-token"].contains(&name);
            assert!(
                !(is_secret && takes_value),
                "{} --{name}",
                command.get_name()
            );
        }
        command.get_subcommands().for_each(look);
    }
    let mut whole = command();
    whole.build();
    look(&whole);
}

#[test]
fn completions_know_the_commands() {
    for shell in [
        clap_complete::Shell::Bash,
        clap_complete::Shell::Zsh,
        clap_complete::Shell::Fish,
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command(), "virtflow", &mut text);
        let text = String::from_utf8(text).unwrap();
        for word in ["role-binding", "console", "quota-memory"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
    }
}
