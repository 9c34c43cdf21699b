//! Generates messages, clients and servers from the `.proto` files beside this script.
//!
//! The compiler is a library, so no `protoc` has to be installed. The public package, the internal one and
//! those of Envoy are compiled apart: each gets a descriptor set of its own, and reflection that is given
//! the others cannot show the internal service.
//!
//! Who may call which method is declared in all of them, and becomes one table.

#[path = "build/access.rs"]
mod access;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_reflect::DescriptorPool;

/// Folder of the public package, from the root of the protos.
const PUBLIC_FOLDER: &str = "rateguard/v1";
/// Folder of the internal package, from the root of the protos.
const INTERNAL_FOLDER: &str = "rateguard/internal/v1";
/// Folders of the packages of Envoy that are spoken, from the root of the protos.
const ENVOY_FOLDERS: [&str; 4] = [
    "envoy/config/core/v3",
    "envoy/extensions/common/ratelimit/v3",
    "envoy/service/ratelimit/v3",
    "envoy/type/v3",
];
/// What reads and writes messages.
const CODEC: &str = "crate::codec::BoundedCodec";
/// The message that holds secrets. Its `Debug` is written by hand so that it prints none.
const SECRET_MESSAGE: &str = ".rateguard.v1.SecretText";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=rateguard");
    println!("cargo::rerun-if-changed=envoy");

    let public = generate(&root, &[PUBLIC_FOLDER], &out.join("public"), &[])?;
    let public_types = [(".rateguard.v1", "crate::v1")];
    let internal = generate(&root, &[INTERNAL_FOLDER], &out.join("internal"), &public_types)?;
    let envoy = generate(&root, &ENVOY_FOLDERS, &out.join("envoy"), &public_types)?;
    let table = access::table(&[public, internal, envoy]).map_err(told)?;
    fs::write(out.join("access.rs"), table)?;
    Ok(())
}

/// Has cargo tell each fault on a line of its own.
fn told(faults: String) -> &'static str {
    faults.lines().for_each(|fault| println!("cargo::error={fault}"));
    "the contract does not say who may call what"
}

/// Compiles the files of folders into `out`, and gives what they describe; `extern_paths` names
/// packages that exist elsewhere.
fn generate(
    root: &Path,
    folders: &[&str],
    out: &Path,
    extern_paths: &[(&str, &str)],
) -> Result<DescriptorPool, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    for folder in folders {
        for file in proto_files(root, folder)? {
            compiler.open_file(file)?;
        }
    }
    fs::create_dir_all(out)?;
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    let mut builder = tonic_prost_build::configure()
        .out_dir(out)
        .codec_path(CODEC)
        .btree_map(".")
        .skip_debug([SECRET_MESSAGE]);
    for (path, module) in extern_paths {
        builder = builder.extern_path(*path, *module);
    }
    // A message's name says whether it is an answer, which the codec asks.
    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    builder.compile_fds_with_config(compiler.file_descriptor_set(), names)?;
    Ok(compiler.descriptor_pool())
}

/// The proto files of one folder, sorted, so that the same input gives the same output everywhere.
fn proto_files(root: &Path, folder: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
