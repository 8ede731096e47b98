//! Whatever a person types, and whatever lies in their files.

use std::time::Duration;

use serde_json::Value;
use virtflow_testkit::fuzz::{Format, Target, text};
use virtflow_types::Timestamp;

use crate::contexts::Contexts;
use crate::noun::Form;
use crate::{amount, safe, spec};

#[test]
fn amounts() {
    Target::new("amounts", Format::Text)
        .seed("1.5TiB")
        .seed("512MiB")
        .seed("1h30m")
        .seed("12.5%")
        .words(&[
            "GiB",
            "m",
            "d",
            "w",
            ".",
            "%",
            "18446744073709551615",
            "340282366920938463463374607431768211455",
        ])
        .iterations(20_000)
        .sizes(1024, 16 * 1024)
        .memory(64, 64 * 1024)
        .run(|input| {
            let text = text(input);
            let size = amount::size_mib(&text);
            if let Ok(mib) = size {
                assert!(mib == 0 || amount::size_mib(&amount::show_mib(mib)) == Ok(mib));
            }
            let span = amount::span(&text);
            if let Ok(span) = span {
                let _ = amount::show_span(span);
                assert_eq!(amount::span(&format!("{}s", span.as_secs())), Ok(span));
            }
            let percent = amount::percent(&text);
            if let Ok(percent) = percent {
                assert!(percent.is_finite() && percent >= 0.0);
            }
            let now = Timestamp::from_ms(1_795_456_800_000);
            for form in [
                Form::Text,
                Form::Count,
                Form::Gib,
                Form::Expiry,
                Form::WholePercent,
                Form::Pairs,
            ] {
                let _ = spec::value_of(form, &[&text], now);
            }
            size.map(|_| Duration::ZERO)
                .or(span)
                .map(|_| ())
                .or(percent.map(|_| ()))
        });
}

#[test]
fn spec_path() {
    Target::new("spec_path", Format::Text)
        .seed("quota.vms=7")
        .seed("labels={\"a\":\"1\"}")
        .words(&[".", "=", "null", "labels", "[]"])
        .memory(512, 64 * 1024)
        .run(|input| {
            let text = text(input);
            let (path, value) = text.split_once('=').ok_or("no path=value")?;
            let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            let mut whole = serde_json::json!({"labels": {"b": "2"}, "list": []});
            spec::put(&mut whole, path, value)?;
            assert!(whole.is_object());
            Ok(())
        });
}

#[test]
fn spec_file() {
    Target::new("spec_file", Format::Text)
        .seed("kind: virtual_machine\nspec:\n  cpu_cores: 2\n  labels: {a: '1'}\n")
        .seed(r#"{"cpu_cores":2}"#)
        .words(&[
            "&a ",
            "*a",
            "<<: *a",
            "!!binary ",
            "|",
            ">",
            "- ",
            "? ",
            "---\n",
            "\t",
            "~",
        ])
        .iterations(1500)
        .sizes(2048, 16 * 1024)
        .memory(512, 1024 * 1024)
        .run(|input| {
            let read: Value = serde_yaml_ng::from_str(&text(input)).map_err(|e| e.to_string())?;
            let _ = read.to_string();
            Ok(())
        });
}

#[test]
fn contexts() {
    let good = "current = \"home\"\n\n[contexts.home]\nendpoints = [\"https://c1:8443\"]\nca = \"-----BEGIN CERTIFICATE-----\"\ntoken = \"vft1.x\"\n";
    Target::new("contexts", Format::Text)
        .seed(good)
        .seed("")
        .words(&[
            "learned",
            "preferred",
            "session",
            "[contexts.",
            "\"https://[::1]:1\"",
        ])
        .iterations(2000)
        .sizes(4096, 64 * 1024)
        .memory(128, 512 * 1024)
        .run(|input| {
            let read: Contexts = toml::from_str(&text(input)).map_err(|e| e.to_string())?;
            let written = toml::to_string(&read).unwrap();
            assert_eq!(toml::from_str::<Contexts>(&written).unwrap(), read);
            Ok(())
        });
}

#[test]
fn terminal_text() {
    Target::new("terminal_text", Format::Text)
        .seed("login: \u{1b}[31mred\u{1b}]0;title\u{7}\n")
        .words(&[
            "\u{1b}[", "\u{1b}]", "\u{1b}\\", "\u{9b}", "\u{9d}", "\u{7}", "\u{202e}", "m",
        ])
        .iterations(2000)
        .sizes(2048, 32 * 1024)
        .run(|input| {
            let text = text(input);
            let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
            let mut console = safe::Console::default();
            assert!(!console.clean(&text).contains(obeyed));
            assert!(!safe::line(&text).contains(char::is_control));
            assert!(!safe::block(&text).contains(obeyed));
            Ok(())
        });
}
