;; A server component for a version of WASI that is still to come: a host of today has to say which import it
;; lacks and which version it offers.
(component
  (import "wasi:http/types@0.4.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $guest
    (func (export "handle") (param i32 i32)))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.4.0" (instance $handler)))
