package embedded

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatches says for each way to watch what each change fires. Every case has nodes of its own:
// "/N/p" with the child "/N/p/c", and "/N/absent", which is not there.
func TestWatches(t *testing.T) {
	t.Parallel()
	addr := start(t, Options{}).Addr()
	tests := []struct {
		watch opcode
		path  string
		do    string // what, where
		want  string // kind and path, or nothing
	}{
		{opGetData, "/p/c", "set /p/c", "changed /p/c"},
		{opGetData, "/p/c", "delete /p/c", "deleted /p/c"},
		{opGetData, "/p", "create /p/x", ""},
		{opGetData, "/p", "delete /p/c", ""},
		{opExists, "/p/c", "set /p/c", "changed /p/c"},
		{opExists, "/p/c", "delete /p/c", "deleted /p/c"},
		{opExists, "/absent", "create /absent", "created /absent"},
		{opGetData, "/absent", "create /absent", ""}, // refused, so no watch
		{opGetChildren, "/p", "create /p/x", "children /p"},
		{opGetChildren, "/p", "delete /p/c", "children /p"},
		{opGetChildren2, "/p", "create /p/x", "children /p"},
		{opGetChildren, "/p", "set /p", ""},
		{opGetChildren, "/p", "set /p/c", ""},
		{opGetChildren, "/p", "create /p/c/x", ""},
		{opGetChildren, "/p/c", "delete /p/c", "deleted /p/c"},
		{opGetChildren, "/absent", "create /absent", ""},
		{opGetData, "/p/c", "acl /p/c", ""},
		{opGetData, "/p/c", "multi /p/c", "changed /p/c"},
		{opGetData, "/p/c", "failing-multi /p/c", ""},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d/%s", tt.watch, tt.do), func(t *testing.T) {
			t.Parallel()
			root := fmt.Sprintf("/%d", i)
			r, other := openRaw(t, addr, generous), openRaw(t, addr, generous)
			for _, path := range []string{"", "/p", "/p/c"} {
				other.want(opCreate, encodeCreate(root+path, "", 0), codeOK)
			}
			r.call(tt.watch, encodePathWatch(root+tt.path))
			what, where, _ := strings.Cut(tt.do, " ")
			other.change(what, root+where)
			want := "nothing"
			if tt.want != "" {
				kind, path, _ := strings.Cut(tt.want, " ")
				want = kind + " " + root + path
			}
			if got := r.heard(); got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
			other.change("delete", root+"/p/c") // whatever it was, it was for once
			if got := r.heard(); tt.want != "" && got != "nothing" {
				t.Errorf("heard again: %s", got)
			}
		})
	}
}

// change does one write; what is refused is not looked at.
func (r *raw) change(what, path string) {
	r.t.Helper()
	set := func(e *encoder) { multiHeader(e, opSetData, -1); encodeSet(path, "new")(e) }
	switch what {
	case "set":
		r.call(opSetData, encodeSet(path, "new"))
	case "create":
		r.call(opCreate, encodeCreate(path, "", 0))
	case "delete":
		r.call(opDelete, encodePathInt(path, -1))
	case "acl":
		r.call(opSetACL, func(e *encoder) { e.text(path); e.acl(openACL()); e.int32(-1) })
	case "multi":
		r.call(opMulti, func(e *encoder) { set(e); multiEnd(e) })
	case "failing-multi":
		r.call(opMulti, func(e *encoder) {
			set(e)
			multiHeader(e, opCheck, -1)
			encodePathInt("/no", 0)(e)
			multiEnd(e)
		})
	default:
		r.t.Fatalf("change %q", what)
	}
}

// heard returns the event that waits, or "nothing". A reply comes behind all earlier events.
func (r *raw) heard() string {
	r.t.Helper()
	names := map[event]string{
		eventCreated: "created", eventDeleted: "deleted", eventDataChanged: "changed", eventChildrenChanged: "children",
	}
	var heard []string
	r.packet(ask(3, opSync, encodePath("/")))
	for {
		got := r.reply()
		if got.xid == 3 {
			break
		}
		d := decoder{b: got.body}
		kind := event(d.int32())
		d.int32()
		heard = append(heard, names[kind]+" "+d.text())
	}
	if len(heard) == 0 {
		return "nothing"
	}
	return strings.Join(heard, ", ")
}

func TestPersistentWatches(t *testing.T) {
	t.Parallel()
	const persistent, recursive = 0, 1
	tests := []struct {
		mode int32
		want map[string]string
	}{
		{persistent, map[string]string{
			"create /p": "created /p", "set /p": "changed /p", "create /p/c": "children /p", "set /p/c": "nothing",
			"create /p/c/d": "nothing", "delete /p/c": "children /p", "delete /p": "deleted /p",
		}},
		{recursive, map[string]string{
			"create /p": "created /p", "set /p": "changed /p", "create /p/c": "created /p/c", "set /p/c": "changed /p/c",
			"create /p/c/d": "created /p/c/d", "delete /p/c": "deleted /p/c", "delete /p": "deleted /p",
		}},
	}
	steps := []string{"create /p", "set /p", "create /p/c", "set /p/c", "create /p/c/d", "delete /p/c/d", "delete /p/c", "delete /p"}
	for _, tt := range tests {
		addr := start(t, Options{}).Addr()
		r, other := openRaw(t, addr, generous), openRaw(t, addr, generous)
		if body := r.want(opAddWatch, encodePathInt("/p", tt.mode), codeOK); len(body) != 4 {
			t.Errorf("addWatch answered %x", body)
		}
		r.want(opAddWatch, encodePathInt("/p", 7), codeBadArguments)
		for range 2 { // it stays
			for _, step := range steps {
				what, where, _ := strings.Cut(step, " ")
				other.change(what, where)
				if want, named := tt.want[step]; named {
					if got := r.heard(); got != want {
						t.Errorf("mode %d, %s: heard %s, want %s", tt.mode, step, got, want)
					}
				} else {
					r.heard()
				}
			}
		}
	}
}

func TestRemoveWatches(t *testing.T) {
	t.Parallel()
	const children, data, anyWay, persistent, recursive = 1, 2, 3, 4, 5
	r := openRaw(t, start(t, Options{}).Addr(), generous)
	other := openRaw(t, r.socket.RemoteAddr().String(), generous)
	other.want(opCreate, encodeCreate("/p", "", 0), codeOK)
	r.want(opGetData, encodePathWatch("/p"), codeOK)
	r.want(opAddWatch, encodePathInt("/p", 1), codeOK)
	for _, tt := range []struct {
		op   opcode
		kind int32
		want code
	}{
		{opCheckWatches, children, codeNoWatcher},
		{opCheckWatches, data, codeOK},
		{opRemoveWatches, persistent, codeNoWatcher},
		{opRemoveWatches, recursive, codeOK},
		{opRemoveWatches, recursive, codeNoWatcher},
		{opCheckWatches, anyWay, codeOK},
		{opRemoveWatches, anyWay, codeOK},
		{opRemoveWatches, anyWay, codeNoWatcher},
		{opCheckWatches, 9, codeBadArguments},
	} {
		if got := r.call(tt.op, encodePathInt("/p", tt.kind)).code; got != tt.want {
			t.Errorf("opcode %d, kind %d: code %d, want %d", tt.op, tt.kind, got, tt.want)
		}
	}
	other.change("set", "/p")
	if got := r.heard(); got != "nothing" {
		t.Errorf("heard %s", got)
	}
}

func TestSetWatches(t *testing.T) {
	t.Parallel()
	addr := start(t, Options{}).Addr()
	r, other := openRaw(t, addr, generous), openRaw(t, addr, generous)
	for _, path := range []string{"/same", "/changed", "/there", "/gone", "/kids", "/quiet"} {
		other.want(opCreate, encodeCreate(path, "", 0), codeOK)
	}
	seenZxid := other.call(opSync, encodePath("/")).zxid
	other.change("set", "/changed")
	other.change("create", "/kids/new")
	other.change("delete", "/gone")
	r.packet(ask(-8, opSetWatches2, func(e *encoder) {
		e.int64(seenZxid)
		e.texts([]string{"/same", "/changed", "/gone"})
		e.texts([]string{"/there", "/absent"})
		e.texts([]string{"/kids", "/quiet", "/gone"})
		e.texts([]string{"/same/below"})
		e.texts([]string{"/quiet"})
	}))
	for _, want := range []seen{
		{eventDataChanged, "/changed"}, {eventDeleted, "/gone"}, {eventCreated, "/there"},
		{eventChildrenChanged, "/kids"}, {eventDeleted, "/gone"},
	} {
		if got := r.event(); got != want {
			t.Errorf("event %v, want %v", got, want)
		}
	}
	if got := r.reply(); got.xid != -8 || got.code != codeOK || len(got.body) > 0 {
		t.Errorf("reply %+v", got)
	}
	for _, tt := range [][2]string{
		{"set /same", "changed /same"}, {"set /changed", "nothing"}, {"create /absent", "created /absent"},
		{"set /there", "nothing"}, {"create /quiet/x", "created /quiet/x, children /quiet"}, {"create /kids/y", "nothing"},
		{"create /same/below", "created /same/below"}, {"create /quiet/z", "created /quiet/z"},
	} {
		what, where, _ := strings.Cut(tt[0], " ")
		other.change(what, where)
		if got := r.heard(); got != tt[1] {
			t.Errorf("%s: heard %s, want %s", tt[0], got, tt[1])
		}
	}
}

// TestHiddenNodesAreNotTold: a watcher that may not read a node does not hear of it.
func TestHiddenNodesAreNotTold(t *testing.T) {
	t.Parallel()
	addr := start(t, Options{}).Addr()
	r, other := openRaw(t, addr, generous), openRaw(t, addr, generous)
	login := func(e *encoder) { e.int32(0); e.text("digest"); e.bytes([]byte("ann:secret")) }
	other.want(opAuth, login, codeOK)
	r.want(opAddWatch, encodePathInt("/", 1), codeOK)
	hidden := func(path string) func(*encoder) {
		return func(e *encoder) {
			e.text(path)
			e.bytes(nil)
			e.acl([]aclEntry{{31, identity{"auth", ""}}})
			e.int32(0)
		}
	}
	other.want(opCreate, hidden("/hidden"), codeOK)
	other.change("set", "/hidden")
	if got := r.heard(); got != "nothing" {
		t.Errorf("heard %s", got)
	}
	r.want(opAuth, login, codeOK)
	other.change("set", "/hidden")
	other.change("delete", "/hidden")
	if got := r.heard(); got != "changed /hidden, deleted /hidden" {
		t.Errorf("heard %s", got)
	}
}

func TestWatchesEndWithTheirConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{MaxWatches: 10})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second})
		for i := range 9 {
			r.want(opExists, encodePathWatch(fmt.Sprintf("/%d", i)), codeNoNode)
		}
		r.want(opAddWatch, encodePathInt("/more", 0), codeQuotaExceeded)
		r.want(opAddWatch, encodePathInt("/more", 1), codeQuotaExceeded)
		r.want(opGetChildren, encodePathWatch("/"), codeOK)
		r.want(opGetData, encodePathWatch("/"), codeQuotaExceeded)
		r.want(opExists, encodePathWatch("/1"), codeNoNode) // it has that one
		if got := s.Stats().Watched; got != 10 {
			t.Errorf("%d watched, want 10", got)
		}
		r.socket.Close()
		synctest.Wait()
		if got := s.Stats().Watched; got != 0 {
			t.Errorf("%d watched after the connection's end", got)
		}
	})
}
