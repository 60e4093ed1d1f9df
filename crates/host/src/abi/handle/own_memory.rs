//! A module that wants its memory from the host, made into one that has the same memory of its own.
//!
//! A memory that the host makes for each instance would be mapped and unmapped for each request, outside of the pool, and the
//! module's data copied into it. As its own it lies in a slot of the pool, is cleaned by what was touched, and its data is
//! mapped; it counts against the same limits as any other. To the code there is no difference: the one import of a memory has
//! the index 0, and so has the first memory of a module that imports none.
//!
//! Only the sections that name imports, memories and exports are read and written; everything else is copied. What is damaged,
//! or imports more than one memory, is left as it is: the compiler and the linker say what is wrong with it.

use std::borrow::Cow;
use std::ops::Range;

use wasmparser::{
    BinaryReader, Error, ExportSectionReader, ImportSectionReader, MemoryType, TypeRef,
};

use crate::interface::env::{MEMORY, MODULE};

const HEAD_BYTES: usize = 8;
const CUSTOM: u8 = 0;
const IMPORTS: u8 = 2;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
/// The order in which sections stand; custom ones may stand anywhere.
const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];
/// What an exported memory begins with, behind its name.
const MEMORY_EXPORT: u8 = 2;

/// The module with a memory of its own in the place of the imported one, exported as `memory`.
pub(crate) fn with_own_memory(binary: &[u8]) -> Cow<'_, [u8]> {
    match rewrite(binary) {
        Ok(Some(own)) => Cow::Owned(own),
        Ok(None) | Err(_) => Cow::Borrowed(binary),
    }
}

/// One section: its number and its content.
type Section<'a> = (u8, Cow<'a, [u8]>);

fn rewrite(binary: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut sections = sections(binary)?;
    let Some((_, imports)) = sections.iter_mut().find(|(id, _)| *id == IMPORTS) else {
        return Ok(None);
    };
    let Some((rest, memory)) = without_memory(imports)? else {
        return Ok(None);
    };
    *imports = Cow::Owned(rest);
    change(&mut sections, MEMORIES, |memories| {
        one_more_in_front(memories, &memory)
    })?;
    change(&mut sections, EXPORTS, exporting)?;
    let mut own = binary.get(..HEAD_BYTES).unwrap_or_default().to_vec();
    for (id, content) in &sections {
        own.push(*id);
        write_number(content.len(), &mut own);
        own.extend_from_slice(content);
    }
    Ok(Some(own))
}

fn sections(binary: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    let body = binary.get(HEAD_BYTES..).unwrap_or_default();
    let mut reader = BinaryReader::new(body, HEAD_BYTES);
    let mut sections = Vec::new();
    while reader.bytes_remaining() > 0 {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        sections.push((id, Cow::Borrowed(reader.read_bytes(length)?)));
    }
    Ok(sections)
}

/// Changes the section with this number; where there is none, an empty one in its place.
fn change(
    sections: &mut Vec<Section<'_>>,
    id: u8,
    changed: impl Fn(&[u8]) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    if let Some((_, content)) = sections.iter_mut().find(|(other, _)| *other == id) {
        *content = Cow::Owned(changed(content)?);
        return Ok(());
    }
    let rank = |id: u8| ORDER.iter().position(|other| *other == id);
    let later = |other: u8| other != CUSTOM && rank(other) > rank(id);
    let behind = sections.iter().position(|(other, _)| later(*other));
    let no_items = [0];
    let section = (id, Cow::Owned(changed(&no_items)?));
    sections.insert(behind.unwrap_or(sections.len()), section);
    Ok(())
}

/// Imports without a memory, and the type of that as it is written.
type Parted = (Vec<u8>, Vec<u8>);

/// Takes the memory out of the imports; `None` where there is not exactly that one.
fn without_memory(imports: &[u8]) -> Result<Option<Parted>, Error> {
    let reader = ImportSectionReader::new(BinaryReader::new(imports, 0))?;
    let mut starts = Vec::new();
    let mut memory: Option<(usize, Range<usize>)> = None;
    for (number, import) in reader.into_imports_with_offsets().enumerate() {
        let (start, import) = import?;
        starts.push(start);
        if !matches!(import.ty, TypeRef::Memory(_)) {
            continue;
        }
        if memory.is_some() || (import.module, import.name) != (MODULE, MEMORY) {
            return Ok(None);
        }
        let mut reader = BinaryReader::new(imports.get(start..).unwrap_or_default(), start);
        reader.read_string()?;
        reader.read_string()?;
        reader.read_u8()?;
        let from = reader.original_position();
        reader.read::<MemoryType>()?;
        memory = Some((number, from..reader.original_position()));
    }
    let Some((number, ty)) = memory else {
        return Ok(None);
    };
    let first = starts.first().copied().unwrap_or_default();
    let start = starts.get(number).copied().unwrap_or_default();
    let mut rest = Vec::with_capacity(imports.len());
    write_number(starts.len() - 1, &mut rest);
    rest.extend_from_slice(imports.get(first..start).unwrap_or_default());
    rest.extend_from_slice(imports.get(ty.end..).unwrap_or_default());
    Ok(Some((rest, imports.get(ty).unwrap_or_default().to_vec())))
}

/// A list with one more item at its beginning.
fn one_more_in_front(list: &[u8], item: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = BinaryReader::new(list, 0);
    let count = reader.read_var_u32()? as usize;
    let mut longer = Vec::with_capacity(list.len() + item.len() + 1);
    write_number(count + 1, &mut longer);
    longer.extend_from_slice(item);
    longer.extend_from_slice(list.get(reader.original_position()..).unwrap_or_default());
    Ok(longer)
}

/// The exports with the memory among them, by the name that the host knows.
fn exporting(exports: &[u8]) -> Result<Vec<u8>, Error> {
    for export in ExportSectionReader::new(BinaryReader::new(exports, 0))? {
        if export?.name == MEMORY {
            return Ok(exports.to_vec());
        }
    }
    let mut item = Vec::with_capacity(MEMORY.len() + 3);
    write_number(MEMORY.len(), &mut item);
    item.extend_from_slice(MEMORY.as_bytes());
    item.extend_from_slice(&[MEMORY_EXPORT, 0]);
    one_more_in_front(exports, &item)
}

/// A number as of LEB128.
fn write_number(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, ExternType, Instance, Module, Store};

    use super::*;

    fn own(text: &str) -> Vec<u8> {
        with_own_memory(&wat::parse_str(text).unwrap()).into_owned()
    }

    /// What `look` returns in an instance that is given nothing.
    fn looks(text: &str) -> i32 {
        let engine = Engine::default();
        let module = Module::new(&engine, own(text)).expect(text);
        assert_eq!(module.imports().count(), 0, "{text}");
        let memory = module.get_export("memory").expect(text);
        assert!(matches!(memory, ExternType::Memory(_)), "{text}");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect(text);
        let look = instance.get_typed_func::<(), i32>(&mut store, "look");
        look.unwrap().call(&mut store, ()).unwrap()
    }

    #[test]
    fn the_module_sees_the_memory_that_it_imported() {
        let import = r#"(import "env" "memory" (memory 2 5))"#;
        let size = r#"(func (export "look") (result i32) memory.size)"#;
        assert_eq!(looks(&format!("(module {import} {size})")), 2);
        let data = r#"(data (i32.const 65536) "\07")
            (func (export "look") (result i32) (i32.load8_u (i32.const 65536)))"#;
        assert_eq!(looks(&format!("(module {import} {data})")), 7);
        let grown = r#"(func (export "look") (result i32)
            (i32.add (memory.grow (i32.const 3)) (memory.grow (i32.const 1))))"#;
        assert_eq!(looks(&format!("(module {import} {grown})")), 1, "2 and -1");
        // Named again by its own export, and beside a second memory, a table, globals and a start function.
        let more = r#"(memory 9) (table 1 funcref) (global (mut i32) (i32.const 3)) (func $start (global.set 0 (i32.const 4)))
            (start $start) (export "memory" (memory 0)) (export "other" (memory 1)) (elem (i32.const 0) $start)
            (func (export "look") (result i32) (i32.add (memory.size 1) (i32.add (memory.size 0) (global.get 0))))"#;
        assert_eq!(looks(&format!("(module {import} {more})")), 15);
    }

    #[test]
    fn other_imports_stay_and_keep_their_order() {
        let binary = own(
            r#"(module (import "env" "log" (func (param i32 i64))) (import "env" "memory" (memory 1))
               (import "env" "tcp_connect" (func (param i32 i64) (result i32))) (@custom "x" "y")
               (func (export "handle") (drop (call 1 (i32.const 0) (i64.const 0)))))"#,
        );
        let module = Module::new(&Engine::default(), binary).unwrap();
        let imports: Vec<_> = module.imports().map(|import| import.name()).collect();
        assert_eq!(imports, ["log", "tcp_connect"]);
        assert!(module.get_export("handle").is_some());
    }

    #[test]
    fn everything_else_is_left_as_it_is() {
        for text in [
            "(module)",
            r#"(module (memory (export "memory") 1))"#,
            r#"(module (import "other" "memory" (memory 1)))"#,
            r#"(module (import "env" "mem" (memory 1)))"#,
            r#"(module (import "env" "memory" (memory 1)) (import "env" "memory" (memory 1)))"#,
        ] {
            assert_eq!(own(text), wat::parse_str(text).unwrap(), "{text}");
        }
    }

    /// Modules with every kind of section near the ones that are written.
    const SEEDS: &[&str] = &[
        r#"(module (import "env" "log" (func (param i32 i64))) (import "env" "memory" (memory 1 9))
           (global i32 (i32.const 1)) (func (export "handle")) (data (i32.const 0) "abc"))"#,
        r#"(module (import "env" "memory" (memory 1)) (import "env" "log" (func (param i32 i64))) (tag) (table 1 funcref)
           (memory 2) (func (export "memory")) (start 1) (elem (i32.const 0) 1) (data "abc"))"#,
    ];

    /// What a module imports, or why it is none.
    fn imports_of(binary: &[u8]) -> std::result::Result<Vec<(String, String)>, String> {
        let mut features = wasmparser::WasmFeatures::default();
        features.remove(wasmparser::WasmFeatures::COMPACT_IMPORTS);
        let mut validator = wasmparser::Validator::new_with_features(features);
        validator.validate_all(binary).map_err(|e| e.to_string())?;
        let mut imports = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(binary) {
            if let wasmparser::Payload::ImportSection(section) =
                payload.map_err(|e| e.to_string())?
            {
                for import in section.into_imports() {
                    let import = import.map_err(|e| e.to_string())?;
                    imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
        }
        Ok(imports)
    }

    #[test]
    fn a_mutant_stays_what_it_was_but_for_its_memory() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let seeds = SEEDS.iter().map(|text| wat::parse_str(text).unwrap());
        let mut seeds: Vec<_> = seeds.collect();
        // Imports that share the name of their module: no standard yet.
        seeds.push(b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x18\x01\x03env\0\x7f\x02\x03log\0\0\x06memory\x02\0\x01".to_vec());
        let (mut valid, mut broken) = (0, 0);
        for number in 0..100_000 {
            let mut mutant = seeds[number % seeds.len()].clone();
            for _ in 0..=random(3) {
                let at = 8 + random(mutant.len() - 8);
                match random(4) {
                    0 => mutant[at] = u8::try_from(random(256)).unwrap(),
                    1 => mutant.insert(at, u8::try_from(random(256)).unwrap()),
                    2 => mutant[at] = [0x7f, 0x7e, 0x80, 0, 1, 2, 5, 7][random(8)],
                    _ => drop(mutant.remove(at)),
                }
            }
            let Cow::Owned(own) = with_own_memory(&mutant) else {
                continue;
            };
            assert!(own.len() <= mutant.len() + 24, "{mutant:02x?}");
            match (imports_of(&mutant), imports_of(&own)) {
                (Ok(mut imports), Ok(left)) => {
                    valid += 1;
                    imports.retain(|import| *import != ("env".into(), "memory".into()));
                    assert_eq!(left, imports);
                }
                (Err(_), Err(_)) => broken += 1,
                (before, after) => panic!("{before:?}, {after:?}: {mutant:02x?}"),
            }
        }
        assert!(valid > 1000 && broken > 1000, "{valid}, {broken}");
    }
}
