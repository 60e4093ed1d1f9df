;; Shows whether an instance finds references that another one left behind in the place of its table. Each request looks at
;; a fresh table and at what it grows by: a reference that is not null is a trap (`foreign`). Then all of it is filled with
;; references and the handler returns without an answer, so that 502 is the good end and 500 the bad one.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $guest
    (table $t 500 funcref)
    (elem declare func $foreign)
    (func $foreign (unreachable))
    (func (export "handle") (param i32 i32)
      (local $at i32)
      (drop (table.grow $t (ref.null func) (i32.const 500)))
      (loop $again
        (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then (call $foreign)))
        (table.set $t (local.get $at) (ref.func $foreign))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $at) (table.size $t))))))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
