;; A server of wasi:http 0.2 with eight memories. It grows them in turns, a mebibyte at a time, and fills each piece, until
;; a whole round got nothing. Then it traps; where it got more than the default limit allows all of them together, it
;; returns without an answer (502).
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $guest
    (memory $m0 1)
    (memory $m1 1)
    (memory $m2 1)
    (memory $m3 1)
    (memory $m4 1)
    (memory $m5 1)
    (memory $m6 1)
    (memory $m7 1)
    (global $got (mut i32) (i32.const 0))
    (func $got (global.set $got (i32.add (global.get $got) (i32.const 1))))
    (func $stopped (unreachable))
    (func (export "handle") (param i32 i32)
      (local $before i32) (local $first i32)
      (loop $again
        (local.set $before (global.get $got))
        (local.set $first (memory.grow $m0 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m0 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m1 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m1 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m2 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m2 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m3 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m3 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m4 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m4 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m5 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m5 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m6 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m6 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (local.set $first (memory.grow $m7 (i32.const 16)))
        (if (i32.ne (local.get $first) (i32.const -1)) (then
          (call $got)
          (memory.fill $m7 (i32.mul (local.get $first) (i32.const 65536)) (i32.const 7) (i32.const 1048576))))
        (br_if $again (i32.ne (local.get $before) (global.get $got))))
      (if (i32.le_u (global.get $got) (i32.const 128)) (then (call $stopped)))))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
