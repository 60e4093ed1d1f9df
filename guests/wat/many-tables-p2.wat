;; A server of wasi:http 0.2 with four tables. It grows them in turns, a hundred references at a time, until a whole round
;; got nothing. Then it traps; where it got more than the default limit allows all of them together, it returns without an
;; answer (502).
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $guest
    (table $t0 1 funcref)
    (table $t1 1 funcref)
    (table $t2 1 funcref)
    (table $t3 1 funcref)
    (elem declare func $stopped)
    (global $got (mut i32) (i32.const 0))
    (func $got (global.set $got (i32.add (global.get $got) (i32.const 1))))
    (func $stopped (unreachable))
    (func (export "handle") (param i32 i32)
      (local $before i32)
      (loop $again
        (local.set $before (global.get $got))
        (if (i32.ne (table.grow $t0 (ref.func $stopped) (i32.const 100)) (i32.const -1)) (then (call $got)))
        (if (i32.ne (table.grow $t1 (ref.func $stopped) (i32.const 100)) (i32.const -1)) (then (call $got)))
        (if (i32.ne (table.grow $t2 (ref.func $stopped) (i32.const 100)) (i32.const -1)) (then (call $got)))
        (if (i32.ne (table.grow $t3 (ref.func $stopped) (i32.const 100)) (i32.const -1)) (then (call $got)))
        (br_if $again (i32.ne (local.get $before) (global.get $got))))
      (if (i32.le_u (global.get $got) (i32.const 200)) (then (call $stopped)))))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
