//! Valid guests that are made to be expensive for the compiler: small to send, large to compile.

/// A command with these functions, each given by its body without locals; the first is `_start`.
fn module(bodies: &[Vec<u8>]) -> Vec<u8> {
    let types = section(1, &[vec![0x60, 0, 0]]);
    let functions = section(3, &vec![vec![0]; bodies.len()]);
    let exports = section(7, &[[&[6][..], b"_start", &[0, 0]].concat()]);
    let sized = |body: &Vec<u8>| {
        let body = [&[0][..], body, &[0x0b]].concat();
        [leb(body.len()), body].concat()
    };
    let code = section(10, &bodies.iter().map(sized).collect::<Vec<_>>());
    [&b"\0asm\x01\0\0\0"[..], &types, &functions, &exports, &code].concat()
}

fn section(id: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let content = [leb(items.len()), items.concat()].concat();
    [vec![id], leb(content.len()), content].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// One function of so many calls: more memory than any other instruction of its size.
pub(crate) fn calls(count: usize) -> Vec<u8> {
    module(&[[0x10, 0].repeat(count)])
}

/// Blocks within blocks: the time grows with the square of their number.
pub(crate) fn nested_blocks(depth: usize) -> Vec<u8> {
    module(&[nest(depth)])
}

/// The same beside so many functions of half a MiB that cost next to nothing.
pub(crate) fn nested_blocks_beside(idle: usize, depth: usize) -> Vec<u8> {
    let mut bodies = vec![vec![1; (512 << 10) - 2]; idle];
    bodies.push(nest(depth));
    module(&bodies)
}

fn nest(depth: usize) -> Vec<u8> {
    [[0x02, 0x40].repeat(depth), vec![0x0b; depth]].concat()
}

/// So many functions of twelve instructions.
pub(crate) fn functions(count: usize) -> Vec<u8> {
    module(&vec![vec![1; 12]; count])
}

/// So many types, all of them alike.
pub(crate) fn types(count: usize) -> Vec<u8> {
    let own = module(&[Vec::new()]);
    let (head, rest) = own.split_at(8);
    let first = section(1, &[vec![0x60, 0, 0]]);
    let all = section(1, &vec![vec![0x60, 0, 0]; count]);
    [head, &all, &rest[first.len()..]].concat()
}

/// A component with one more core module, which it never instantiates: it is compiled all the same.
pub(crate) fn within(component: &[u8], module: &[u8]) -> Vec<u8> {
    [component, &[1], &leb(module.len()), module].concat()
}

/// A custom section of about this size, which nobody reads.
pub(crate) fn padding(bytes: usize) -> Vec<u8> {
    let content = [&[4][..], b"rest", &vec![0; bytes]].concat();
    [vec![0], leb(content.len()), content].concat()
}
