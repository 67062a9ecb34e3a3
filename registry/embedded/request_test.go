package embedded

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		fill func(*encoder)
		want request
	}{
		{"create", ask(1, opCreate, encodeCreate("/a", "d", 3)),
			request{xid: 1, op: opCreate, path: "/a", data: []byte("d"), acl: openACL(), flags: 3}},
		{"null data and ACL", ask(1, opCreate, func(e *encoder) { e.text("/a"); e.bytes(nil); e.int32(-1); e.int32(0) }),
			request{xid: 1, op: opCreate, path: "/a"}},
		{"empty data", ask(1, opSetData, encodeSet("/a", "")),
			request{xid: 1, op: opSetData, path: "/a", data: []byte{}, version: -1}},
		{"null path", ask(1, opSync, func(e *encoder) { e.int32(-1) }), request{xid: 1, op: opSync}},
		{"more than known", ask(1, opGetACL, func(e *encoder) { e.text("/a"); e.text("newer") }),
			request{xid: 1, op: opGetACL, path: "/a"}},
		{"ttl", ask(1, opCreateTTL, func(e *encoder) { encodeCreate("/a", "d", 5)(e); e.int64(9) }),
			request{xid: 1, op: opCreateTTL, path: "/a", data: []byte("d"), acl: openACL(), flags: 5, ttl: 9}},
		{"auth", ask(-4, opAuth, func(e *encoder) { e.int32(0); e.text("digest"); e.bytes([]byte("a:b")) }),
			request{xid: -4, op: opAuth, scheme: "digest", data: []byte("a:b")}},
		{"multi", ask(1, opMulti, func(e *encoder) {
			multiHeader(e, opDelete, -1)
			encodePathInt("/a", 4)(e)
			multiEnd(e)
		}), request{xid: 1, op: opMulti, ops: []request{{op: opDelete, path: "/a", version: 4}}}},
		{"unknown", ask(1, 4711, encodePath("/a")), request{xid: 1, op: 4711}},
	}
	for _, tt := range tests {
		var e encoder
		tt.fill(&e)
		got, err := decodeRequest(e.b)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(request{}, aclEntry{}, identity{}, watchLists{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// FuzzRequest checks that no packet makes the decoder panic or keep more than its bytes justify.
func FuzzRequest(f *testing.F) {
	seeds := []func(*encoder){
		ask(1, opCreate, encodeCreate("/a", "d", 3)),
		ask(1, opCreateTTL, func(e *encoder) { encodeCreate("/a", "d", 5)(e); e.int64(9) }),
		ask(2, opSetData, encodeSet("/a", "")),
		ask(3, opGetData, encodePathWatch("/a")),
		ask(4, opMulti, func(e *encoder) {
			multiHeader(e, opCreate, -1)
			encodeCreate("/m", "", 0)(e)
			multiHeader(e, opCheck, -1)
			encodePathInt("/m", 0)(e)
			multiEnd(e)
		}),
		ask(5, opMultiRead, func(e *encoder) { multiHeader(e, opGetData, -1); encodePathWatch("/a")(e); multiEnd(e) }),
		ask(-8, opSetWatches2, func(e *encoder) {
			e.int64(1)
			for range 5 {
				e.texts([]string{"/a", "/b"})
			}
		}),
		ask(-4, opAuth, func(e *encoder) { e.int32(0); e.text("digest"); e.bytes([]byte("a:b")) }),
		ask(-2, opPing, nil),
		hello{session: 5}.encode,
	}
	for _, fill := range seeds {
		var e encoder
		fill(&e)
		f.Add(e.b)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		decodeConnect(packet)
		r, err := decodeRequest(packet)
		if err != nil {
			return
		}
		kept := len(r.path) + len(r.data) + len(r.scheme) + 12*len(r.acl) + 17*len(r.ops)
		if w := r.watches; w != nil {
			for _, list := range [][]string{w.data, w.exist, w.child, w.persistent, w.recursive} {
				kept += 4 * len(list)
				for _, path := range list {
					kept += len(path)
				}
			}
		}
		if kept > len(packet) {
			t.Fatalf("%d bytes kept of a packet of %d", kept, len(packet))
		}
	})
}
