//! nginx's feature and version cfgs, and our own bindings of the structs in [`STRUCTS`].
//!
//! `nginx-sys` binds the rest. Its bindgen misplaces bit-fields of `ngx_http_request_t` from nginx
//! 1.29.3 on, so these structs are bound here by a newer bindgen, and each of their bit-fields is
//! compared with what the C compiler says: a wrong binding fails the build.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = "#include <ngx_config.h>\n#include <ngx_core.h>\n#include <ngx_event.h>\n#include <ngx_http.h>\n";

/// The types as C spells them.
const STRUCTS: [&str; 3] = [
    "struct ngx_http_request_s",
    "struct ngx_http_core_loc_conf_s",
    "ngx_http_request_body_t",
];

/// The name of one of [`STRUCTS`] in Rust.
fn rust_name(of_c: &str) -> &str {
    of_c.strip_prefix("struct ").unwrap_or(of_c)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    nginx_cfgs();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("OUT_DIR"));
    let flags = compiler_flags();
    let bindings = bind_request(&flags);
    let asserts = layout_asserts(&bindings, &flags, &out);
    fs::write(out.join("request.rs"), bindings).expect("request.rs is written");
    fs::write(out.join("request_layout.rs"), asserts).expect("request_layout.rs is written");
}

/// Passes on what `nginx-sys` found in nginx's configuration: features and system.
fn nginx_cfgs() {
    for (variable, cfg) in [("FEATURES", "ngx_feature"), ("OS", "ngx_os")] {
        let known = metadata(&format!("{variable}_CHECK")).unwrap_or_else(|| "any()".into());
        println!("cargo::rustc-check-cfg=cfg({cfg}, values({known}))");
        for value in metadata(variable)
            .unwrap_or_default()
            .split(',')
            .filter(|v| !v.is_empty())
        {
            println!("cargo::rustc-cfg={cfg}=\"{}\"", value.trim());
        }
    }
}

/// A `DEP_NGINX_…` variable, which `nginx-sys` sets for its direct dependents.
fn metadata(name: &str) -> Option<String> {
    let name = format!("DEP_NGINX_{name}");
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok()
}

/// The include directories and macros that nginx itself was configured with.
fn compiler_flags() -> Vec<String> {
    let include = metadata("INCLUDE").expect("nginx-sys is a direct dependency");
    let mut flags: Vec<String> = env::split_paths(&include)
        .map(|path| format!("-I{}", path.display()))
        .collect();
    flags.extend(
        metadata("CFLAGS")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned),
    );
    flags
}

fn bind_request(flags: &[String]) -> String {
    bindgen::Builder::default()
        .header_contents("request.h", HEADER)
        .clang_args(flags)
        .allowlist_type(STRUCTS.map(rust_name).join("|"))
        .allowlist_recursively(false)
        .raw_line("use nginx_sys::*;")
        .layout_tests(false)
        .use_core()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .generate()
        .expect("bindings of nginx's structs")
        .to_string()
}

/// One bit-field as the bindings place it: `unit` is the number in `_bitfield_N`.
struct BitField {
    owner: String,
    name: String,
    unit: String,
    bit: usize,
    width: u32,
}

/// Finds the bit-fields in the text of the bindings, by their getters.
fn bit_fields(bindings: &str) -> Vec<BitField> {
    let mut fields = Vec::new();
    let mut getter = None;
    let mut owner = "";
    for line in bindings.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix("impl ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            owner = name;
        }
        if let Some(name) = line.strip_prefix("pub fn ") {
            getter = name.split_once("(&self)").map(|(name, _)| name.to_owned());
        }
        let Some((_, rest)) = line.split_once("self._bitfield_") else {
            continue;
        };
        let Some((unit, rest)) = rest.split_once(".get_const::<") else {
            continue;
        };
        let mut numbers = rest.split(|c: char| !c.is_ascii_alphanumeric());
        let mut number =
            |suffix| numbers.find_map(|n| n.strip_suffix(suffix)?.parse::<usize>().ok());
        if let (Some(name), Some(bit), Some(width)) = (getter.take(), number("usize"), number("u8"))
        {
            let width = u32::try_from(width).expect("a width in bits");
            let (owner, unit) = (owner.to_owned(), unit.to_owned());
            fields.push(BitField {
                owner,
                name,
                unit,
                bit,
                width,
            });
        }
    }
    assert!(
        fields.len() > 40,
        "only {} bit-fields found in the bindings",
        fields.len()
    );
    fields
}

/// Asks the C compiler where each bit-field is, and writes const assertions that compare the two.
fn layout_asserts(bindings: &str, flags: &[String], out: &Path) -> String {
    let fields = bit_fields(bindings);
    let mut asserts = String::new();
    for (field, line) in fields.iter().zip(probe(&fields, flags, out).lines()) {
        let (first, width) = line.split_once(' ').expect("two numbers a line");
        writeln!(
            asserts,
            "const _: () = assert!(core::mem::offset_of!({}, _bitfield_{}) * 8 + \
             {} == {first} && {} == {width}, \"wrong place of bit-field {}\");",
            field.owner, field.unit, field.bit, field.width, field.name
        )
        .expect("a String takes all");
    }
    asserts
}

/// Runs a C program that prints, per bit-field, its first bit in the struct and its width.
fn probe(fields: &[BitField], flags: &[String], out: &Path) -> String {
    let mut source = format!(
        "{HEADER}#include <stdio.h>\n#include <string.h>\n\
         static union {{ {} }} u;\n\
         static void say(void) {{ unsigned char *p = (unsigned char *) &u; size_t i, first = 0;\n\
         int n = 0; for (i = 0; i < sizeof(u) * 8; i++) if (p[i / 8] >> (i % 8) & 1) {{\n\
         if (n++ == 0) first = i; }} printf(\"%zu %d\\n\", first, n); }}\n\
         int main(void) {{\n",
        STRUCTS
            .map(|name| format!("{name} {};", rust_name(name)))
            .concat()
    );
    for field in fields {
        let BitField { owner, name, .. } = field;
        writeln!(
            source,
            "memset(&u, 0, sizeof(u)); u.{owner}.{name} = ~u.{owner}.{name}; say();"
        )
        .expect("a String takes all");
    }
    source.push_str("return 0; }\n");
    let (c, program) = (out.join("layout.c"), out.join("layout"));
    fs::write(&c, source).expect("layout.c is written");
    let compiler = env::var("HOST_CC")
        .or_else(|_| env::var("CC"))
        .unwrap_or_else(|_| "cc".into());
    let built = Command::new(&compiler)
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(&c)
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "\"{compiler}\" compiles layout.c"
    );
    let run = Command::new(&program).output().expect("layout runs");
    assert!(run.status.success(), "layout ends well");
    String::from_utf8(run.stdout).expect("numbers")
}
