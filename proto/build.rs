//! Compiles the `.proto` files with protox, so that no system `protoc` is needed, and notes of which parts
//! each message may have many: see `src/bounded.rs`.

use std::fmt::Write as _;
use std::path::Path;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let files = [
        "virtflow/agent/v1/agent.proto",
        "virtflow/raft/v1/raft.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let messages = || {
        descriptors.file.iter().flat_map(|file| {
            let package = file.package().to_owned();
            file.message_type
                .iter()
                .map(move |message| (format!("{package}.{}", message.name()), message))
        })
    };
    let names: Vec<String> = messages().map(|(name, _)| name).collect();
    let mut shapes = format!(
        "pub(super) static SHAPES: [&[(u64, Option<usize>)]; {}] = [\n",
        names.len()
    );
    let mut types = String::new();
    for (at, (name, message)) in messages().enumerate() {
        shapes.push_str("    &[");
        for field in &message.field {
            let is_list = field.label().as_str_name() == "LABEL_REPEATED";
            let part = match field.r#type().as_str_name() {
                "TYPE_MESSAGE" => {
                    let of = field.type_name().trim_start_matches('.');
                    let inner = names.iter().position(|name| name == of);
                    let inner = inner.ok_or_else(|| format!("{name} holds an unknown {of}"))?;
                    format!("Some({inner})")
                }
                "TYPE_STRING" | "TYPE_BYTES" if is_list => "None".to_owned(),
                _ => continue,
            };
            write!(shapes, "({}, {part}), ", field.number())?;
        }
        writeln!(shapes, "], // {name}")?;
        let path = name.trim_start_matches("virtflow.").replace('.', "::");
        writeln!(
            types,
            "impl Bounded for crate::{path} {{ const SHAPE: usize = {at}; }}"
        )?;
    }
    shapes.push_str("];\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("shapes.rs"), shapes + &types)?;
    tonic_prost_build::configure()
        .bytes(".virtflow.raft.v1")
        .codec_path("crate::bounded::BoundedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
