//! What is made of declarations: of one with every sort of field, and of all kinds that there are.

use clap::Command;
use serde_json::json;

use super::*;

/// A kind with a field of every sort.
fn volume() -> Declared {
    const REFERENCES: &[Reference] = &[
        Reference::under("group", Kind::BaremetalGroup),
        Reference::to("backup_policy", Kind::Rack),
        Reference::to("tenant", Kind::Tenant),
    ];
    let words = |all: &[&str]| -> Value {
        let each = all
            .iter()
            .map(|word| json!({"const": word, "type": "string"}));
        each.collect()
    };
    Declared {
        kind: Kind::Rack,
        rules: Rules {
            references: REFERENCES,
            update: ByPeople::Never("make another"),
            delete: ByPeople::ByVerb,
            ..Rules::plain("Disks that outlive VMs")
        },
        scope: Scope::System,
        spec: json!({
            "type": "object",
            "required": ["group_id", "size_gib"],
            "properties": {
                "addresses": {"type": "array", "items": {"type": "string"}, "description": "Where it is reached."},
                "architecture": {"enum": ["x86-64", "arm64"], "description": "Machine it is for."},
                "backup_policy_id": {"type": ["string", "null"], "format": "uuid", "description": "How it is saved. Absent: not at all."},
                "cache": {"type": "object", "properties": {}, "description": "Cache."},
                "count": {"type": ["integer", "null"], "description": "How many there are, e.g. two.\nNo more than ten."},
                "encrypted": {"type": "boolean", "description": "Whether what is written is sealed."},
                "group_id": {"type": "string", "format": "uuid", "description": "Where it lies."},
                "keep_mib": {"type": "integer", "description": "MiB."},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Labels."},
                "limit": {"type": "integer", "description": "Writes in a second."},
                "mode": {"anyOf": [{"oneOf": words(&["read_only", "read_write"]), "description": "A mode."}, {"type": "null"}], "description": "What may be done."},
                "ratio": {"type": "number", "description": "No form says it."},
                "share_percent": {"type": "number", "description": "Share."},
                "size_gib": {"type": "integer", "description": "Size."},
                "size_mib": {"type": "integer", "description": "Size once more."},
                "tenant_id": {"type": "string", "format": "uuid", "description": "Whose it is."},
                "timeout_s": {"type": "integer", "description": "Seconds."},
            },
        }),
        status: json!({"properties": {"phase": {"type": "string"}}}),
    }
}

#[test]
fn flags_follow_from_the_fields() {
    let made = noun(&volume());
    let told: Vec<String> = made
        .flags
        .iter()
        .map(|flag| {
            let life = if flag.is_for_life { ", for life" } else { "" };
            let Flag {
                long,
                path,
                form,
                help,
                ..
            } = flag;
            format!("--{long} {path} {form:?}{life}: {help}")
        })
        .collect();
    let expected = [
        "--group group Text, for life: Where it lies",
        "--size size_gib Gib: Size, 20GiB",
        "--address addresses Texts: Where it is reached; may be repeated",
        "--architecture architecture Choice([\"x86-64\", \"arm64\"]): Machine it is for",
        "--backup-policy backup_policy Text: How it is saved",
        "--count count Count: How many there are, e.g. two",
        "--encrypted encrypted Truth: Whether what is written is sealed",
        "--keep keep_mib Mib: Keep, 512MiB",
        "--label labels Pairs: Labels: key=value; may be repeated",
        "--spec-limit limit Count: Writes in a second",
        "--mode mode Word([\"read-only\", \"read-write\"]): What may be done",
        "--share share_percent Percent: Share, 12.5",
        "--size-mib size_mib Mib: Size once more, 512MiB",
        "--tenant tenant Text: Whose it is",
        "--timeout-s timeout_s Seconds: Timeout, 30s",
    ];
    assert_eq!(told, expected);
    // Where the object is itself in a tenant, that is what `--tenant` says.
    let of_tenant = Declared {
        scope: Scope::Tenant,
        ..volume()
    };
    let longs: Vec<&str> = flags(&of_tenant).iter().map(|flag| flag.long).collect();
    assert!(longs.contains(&"tenant-id") && !longs.contains(&"tenant"));
}

#[test]
fn verbs_and_columns_follow_from_the_declaration() {
    let made = noun(&volume());
    let verbs = [
        Verb::List,
        Verb::Get,
        Verb::Describe,
        Verb::Create,
        Verb::Delete,
    ];
    assert_eq!(
        (made.verbs, made.about),
        (&verbs[..], "Disks that outlive VMs")
    );
    let told: Vec<String> = made
        .columns
        .iter()
        .map(|column| format!("{} {} {:?}", column.head, column.at.join(" "), column.show))
        .collect();
    let expected = [
        "GROUP /names/group /spec/group_id Plain",
        "BACKUP POLICY /names/backup_policy /spec/backup_policy_id Plain",
        "TENANT /names/tenant /spec/tenant_id Plain",
        "PHASE /status/phase Plain",
        "SIZE /spec/size_gib Gib",
        "ARCHITECTURE /spec/architecture Plain",
        "COUNT /spec/count Plain",
        "AGE /created_at Age",
    ];
    assert_eq!(told, expected);
}

#[test]
fn one_of_several_is_called_as_people_call_it() {
    for (field, expected) in [
        ("labels", "label"),
        ("permissions", "permission"),
        ("addresses", "address"),
        ("dns_servers", "dns_server"),
        ("search_dns", "search_dns"),
        ("prefixes", "prefix"),
        ("policies", "policies"),
        ("leases", "leases"),
        ("status", "status"),
        ("nodes", "node"),
        ("domains", "domain"),
    ] {
        assert_eq!(singular(field), expected);
    }
}

/// Every option that a verb has by itself is one that no flag is called.
#[test]
fn what_verbs_take_is_taken() {
    fn longs(command: &Command, found: &mut Vec<String>) {
        let options = command.get_arguments().filter_map(|it| it.get_long());
        found.extend(options.map(str::to_owned));
        command.get_subcommands().for_each(|it| longs(it, found));
    }
    let bare = Box::leak(Box::new(Noun {
        flags: &[],
        verbs: super::super::ALL,
        ..noun(&Declared {
            scope: Scope::Tenant,
            ..volume()
        })
    }));
    let command = bare.verbs.iter().filter(|verb| **verb != Verb::List);
    let command = command.fold(Command::new("virtflow"), |command, verb| {
        command.subcommand(crate::grammar::of_verb(bare, *verb))
    });
    let mut found = Vec::new();
    longs(&command, &mut found);
    longs(&crate::grammar::command(), &mut found);
    // A deletion is narrowed by what lists are narrowed by.
    let narrowing = crate::grammar::narrowing(bare);
    let narrows = |long: &String| narrowing.iter().any(|arg| arg.get_long() == Some(long));
    let of_verbs = found
        .iter()
        .take_while(|long| *long != "output")
        .filter(|long| !narrows(long));
    let missing: Vec<&String> = of_verbs
        .filter(|long| !TAKEN.contains(&long.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(found.contains(&"idempotency-key".to_owned()));
}

/// Kinds for which an entry is written would have a sound command without it.
#[test]
fn what_is_made_of_every_kind_is_a_sound_command() {
    for kind in Kind::ALL {
        let made = of_kind(*kind);
        let command = made
            .verbs
            .iter()
            .fold(Command::new("virtflow"), |command, verb| {
                command.subcommand(crate::grammar::of_verb(made, *verb))
            });
        command.debug_assert();
        for flag in made.flags {
            let help = flag.help;
            assert!(
                !help.is_empty() && !help.ends_with('.') && help.len() < 160,
                "{} --{}: {help}",
                kind.name(),
                flag.long
            );
        }
    }
}
