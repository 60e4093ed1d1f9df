//! The walk over the sections of a binary, with a bound on everything that a hostile file can blow up.

use std::cell::Cell;
use std::fmt;

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternName, ComponentExternalKind, ComponentImport,
    ComponentOuterAliasKind, ComponentType, ComponentTypeRef, CoreType, CustomSectionReader,
    Encoding, KnownCustom, Parser, Payload, TypeBounds,
};

use super::{Abi, DetectError, Detected, Form, Need, systems};

/// How deep component types may nest. The reader of the engine recurses without a bound: a file of 3 KB would overflow
/// the stack and end the process.
const TYPE_DEPTH_MAX: u32 = 100;
/// How deep components may nest in one another.
const NESTING_MAX: usize = 100;
/// How many names (imports, exports, functions of imported interfaces) one binary may have.
pub(super) const NAMES_MAX: usize = 200_000;
/// How many lines of "processed-by" and "language" are kept for `inspect`.
const PRODUCERS_MAX: usize = 16;

/// Walks the sections of a binary whose header has been checked.
pub(super) fn scan(bytes: &[u8]) -> Result<Detected, DetectError> {
    let mut scan = Scan {
        bytes,
        ..Scan::default()
    };
    for payload in Parser::new(0).parse_all(bytes) {
        scan.payload(payload.map_err(|error| damaged(bytes, &error))?)?;
    }
    Ok(scan.finish())
}

const REPEAT: &str = "build or download the file again; if it is damaged still, report it to the maker of its toolchain";

fn damaged(bytes: &[u8], error: &wasmparser::Error) -> DetectError {
    // The parser's message for bytes that end too early, or its complaint about what should follow the last byte.
    let what = if error.message().contains("unexpected end") || error.offset() >= bytes.len() {
        format!(
            "the file is cut short: it ends after {} bytes, and more must follow",
            bytes.len()
        )
    } else {
        format!(
            "the file is damaged at byte {:#x}: {}",
            error.offset(),
            error.message()
        )
    };
    DetectError::new(what, REPEAT)
}

fn too_deep(what: &str, levels: impl fmt::Display) -> DetectError {
    let what = format!("the component's {what} nest deeper than {levels} levels");
    DetectError::new(
        what,
        "no toolchain makes such a component; check where the file comes from",
    )
}

/// What has been seen of a binary so far.
#[derive(Default)]
struct Scan<'a> {
    bytes: &'a [u8],
    found: Detected,
    /// How many modules and components the walk is inside of; 0 is the binary itself.
    nesting: usize,
    /// The component's type index space: for an instance type what it needs of the host, else `None`.
    types: Vec<Option<Vec<String>>>,
    /// Names kept so far, against [`NAMES_MAX`].
    names: usize,
    traits: systems::Traits,
    core_types: Vec<Option<usize>>,
}

impl<'a> Scan<'a> {
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), DetectError> {
        match payload {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } if self.nesting == 0 => {
                self.found.form = Form::Component;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.nesting += 1;
                if self.nesting > NESTING_MAX {
                    return Err(too_deep("components", NESTING_MAX));
                }
            }
            Payload::End(_) => self.nesting = self.nesting.saturating_sub(1),
            Payload::CustomSection(section) => self.custom(&section),
            // The types of nested components are read too: their nesting is what overflows a compiler's stack.
            Payload::ComponentTypeSection(section) => self.component_types(section.range())?,
            Payload::UnknownSection { id, range, .. } => {
                let what = format!(
                    "the file is damaged at byte {:#x}: there is no section {id}",
                    range.start
                );
                return Err(DetectError::new(what, REPEAT));
            }
            _ if self.nesting > 0 => {}
            Payload::TypeSection(section) => self.core_types(section)?,
            Payload::ImportSection(section) => self.core_imports(section)?,
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|error| damaged(self.bytes, &error))?;
                    self.export(export.name)?;
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.component_alias(&alias.map_err(|error| damaged(self.bytes, &error))?);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.component_import(&import.map_err(|error| damaged(self.bytes, &error))?)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(|error| damaged(self.bytes, &error))?;
                    if export.kind == ComponentExternalKind::Type {
                        self.types.push(None);
                    }
                    self.export(export.name.name)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count_name(&mut self) -> Result<(), DetectError> {
        self.names += 1;
        if self.names <= NAMES_MAX {
            return Ok(());
        }
        let what = format!("the file has more than {NAMES_MAX} imports and exports");
        Err(DetectError::new(
            what,
            "no toolchain makes such a guest; check where the file comes from",
        ))
    }

    fn export(&mut self, name: &str) -> Result<(), DetectError> {
        self.count_name()?;
        self.found.exports.push(name.to_owned());
        Ok(())
    }

    fn core_types(
        &mut self,
        section: wasmparser::TypeSectionReader<'a>,
    ) -> Result<(), DetectError> {
        for group in section {
            let group = group.map_err(|error| damaged(self.bytes, &error))?;
            for ty in group.types() {
                let params = match &ty.composite_type.inner {
                    wasmparser::CompositeInnerType::Func(func) => Some(func.params().len()),
                    _ => None,
                };
                self.core_types.push(params);
            }
        }
        Ok(())
    }

    fn core_imports(
        &mut self,
        section: wasmparser::ImportSectionReader<'a>,
    ) -> Result<(), DetectError> {
        for import in section.into_imports() {
            let import = import.map_err(|error| damaged(self.bytes, &error))?;
            self.count_name()?;
            let params = match import.ty {
                wasmparser::TypeRef::Func(index) => usize::try_from(index)
                    .ok()
                    .and_then(|index| self.core_types.get(index).copied().flatten()),
                _ => None,
            };
            self.traits.core_import(&import, params);
            let name = format!("{}.{}", import.module, import.name);
            self.found.imports.push(name.clone());
            self.found.needs.push(Need {
                name,
                items: vec![import.name.to_owned()],
            });
        }
        Ok(())
    }

    fn component_types(&mut self, range: std::ops::Range<usize>) -> Result<(), DetectError> {
        let bytes = self.bytes;
        let section = bytes.get(range.clone()).unwrap_or_default();
        let mut reader = BinaryReader::new(section, range.start);
        let count = reader
            .read_var_u32()
            .map_err(|error| damaged(bytes, &error))?;
        for _ in 0..count {
            let walk = TypeWalk {
                bytes,
                asynchronous: Cell::new(false),
            };
            let needs = walk.read(&mut reader, 0)?;
            self.found.asynchronous |= walk.asynchronous.get();
            if self.nesting == 0 {
                self.names += needs.as_ref().map_or(0, Vec::len);
                self.count_name()?;
                self.types.push(needs);
            }
        }
        Ok(())
    }

    /// Keeps the type index space in step with the binary's.
    fn component_alias(&mut self, alias: &ComponentAlias<'a>) {
        match alias {
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Type,
                ..
            }
            | ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Type,
                ..
            } => self.types.push(None),
            _ => {}
        }
    }

    fn component_import(&mut self, import: &ComponentImport<'a>) -> Result<(), DetectError> {
        self.count_name()?;
        let name = import.name.name;
        let items = match import.ty {
            ComponentTypeRef::Instance(index) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                self.types.get(index).cloned().flatten().unwrap_or_default()
            }
            ComponentTypeRef::Type(bounds) => {
                self.types.push(None);
                required(name, ComponentTypeRef::Type(bounds))
                    .into_iter()
                    .collect()
            }
            other => required(name, other).into_iter().collect(),
        };
        self.found.imports.push(name.to_owned());
        if !items.is_empty() {
            self.found.needs.push(Need {
                name: name.to_owned(),
                items,
            });
        }
        Ok(())
    }

    fn custom(&mut self, section: &CustomSectionReader<'a>) {
        if self.nesting == 0 {
            self.traits.custom_section(section.name());
        }
        // Informational only: a damaged section of this kind is left out, not refused.
        let KnownCustom::Producers(fields) = section.as_known() else {
            return;
        };
        for value in fields
            .into_iter()
            .flatten()
            .flat_map(|field| field.values)
            .flatten()
        {
            let line = format!("{} {}", value.name, value.version)
                .trim()
                .to_owned();
            if self.found.producers.len() < PRODUCERS_MAX && !self.found.producers.contains(&line) {
                self.found.producers.push(line);
            }
        }
    }

    fn finish(self) -> Detected {
        let mut found = self.found;
        found.system = self.traits.system(&found);
        found.abis = match found.form {
            Form::Component => {
                let exported = |abi: &Abi| {
                    found
                        .exports
                        .iter()
                        .any(|name| Abi::of_export(name) == Some(*abi))
                };
                Abi::ALL.into_iter().filter(exported).collect()
            }
            Form::Module
                if found.system.is_none() && found.exports.iter().any(|name| name == "_start") =>
            {
                vec![Abi::CommandP1]
            }
            Form::Module if found.system == Some(systems::HANDLE) => vec![Abi::Handle],
            Form::Module if systems::is_started_by_init(&found) => vec![Abi::Init],
            Form::Module => Vec::new(),
        };
        found.abi = found.abis.first().copied();
        if found.abi.is_some() {
            found.system = None;
        }
        found
    }
}

/// What of one name the host must implement: everything except a name for a type that exists already.
fn required(name: &str, ty: ComponentTypeRef) -> Option<String> {
    match ty {
        ComponentTypeRef::Type(TypeBounds::Eq(_)) => None,
        _ => Some(name.to_owned()),
    }
}

/// Reads component types with a bound on their nesting.
struct TypeWalk<'a> {
    bytes: &'a [u8],
    /// Whether one of the types was that of an async function.
    asynchronous: Cell<bool>,
}

impl<'a> TypeWalk<'a> {
    /// One type; for an instance type what it needs of whoever provides it.
    fn read(
        &self,
        reader: &mut BinaryReader<'a>,
        depth: u32,
    ) -> Result<Option<Vec<String>>, DetectError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(too_deep("types", TYPE_DEPTH_MAX));
        }
        let start = reader.clone();
        let error = |error| damaged(self.bytes, &error);
        let is_instance = match reader.read_u8().map_err(error)? {
            0x41 => false,
            0x42 => true,
            _ => {
                *reader = start;
                let ty = reader.read::<ComponentType<'_>>().map_err(error)?;
                if matches!(ty, ComponentType::Func(func) if func.async_) {
                    self.asynchronous.set(true);
                }
                return Ok(None);
            }
        };
        let mut items = Vec::new();
        for _ in 0..reader.read_var_u32().map_err(error)? {
            match reader.read_u8().map_err(error)? {
                0x00 => drop(reader.read::<CoreType<'_>>().map_err(error)?),
                0x01 => drop(self.read(reader, depth + 1)?),
                0x02 => {
                    reader.read::<ComponentAlias<'_>>().map_err(error)?;
                }
                0x03 if !is_instance => {
                    reader.read::<ComponentImport<'_>>().map_err(error)?;
                }
                0x04 => {
                    let name = reader.read::<ComponentExternName<'_>>().map_err(error)?;
                    let ty = reader.read::<ComponentTypeRef>().map_err(error)?;
                    items.extend(required(name.name, ty));
                }
                other => {
                    let at = reader.original_position().saturating_sub(1);
                    let what = format!(
                        "the file is damaged at byte {at:#x}: {other:#x} starts no type declaration"
                    );
                    return Err(DetectError::new(what, REPEAT));
                }
            }
        }
        Ok(is_instance.then_some(items))
    }
}
