package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// raw is a client that writes the bytes itself.
type raw struct {
	t       testing.TB
	socket  net.Conn
	session int64
	// password and timeout are as the server answered.
	password []byte
	timeout  time.Duration
}

func dialRaw(t testing.TB, addr string) *raw {
	t.Helper()
	socket, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { socket.Close() })
	socket.SetDeadline(time.Now().Add(generous))
	return &raw{t: t, socket: socket}
}

// packet sends what fill encodes, with its length before it.
func (r *raw) packet(fill func(*encoder)) {
	r.t.Helper()
	if _, err := r.socket.Write(framed(fill)); err != nil {
		r.t.Fatal(err)
	}
}

func framed(fill func(*encoder)) []byte {
	var e encoder
	at := e.open()
	fill(&e)
	e.shut(at)
	return e.b
}

// receive returns the next packet, or nil when the server has closed the connection.
func (r *raw) receive() []byte {
	r.t.Helper()
	packet, err := readPacket(r.socket, 64<<20)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return packet
}

type hello struct {
	lastZxid int64
	timeout  time.Duration
	session  int64
	password []byte
	old      bool // before 3.4: no read-only byte
}

func (h hello) encode(e *encoder) {
	e.int32(0)
	e.int64(h.lastZxid)
	e.int32(int32(h.timeout.Milliseconds()))
	e.int64(h.session)
	if h.password == nil {
		h.password = make([]byte, passwordSize)
	}
	e.bytes(h.password)
	if !h.old {
		e.bool(false)
	}
}

// connect says hello and notes the answer. It returns the answer's length.
func (r *raw) connect(h hello) int {
	r.t.Helper()
	r.packet(h.encode)
	packet := r.receive()
	d := decoder{b: packet}
	d.int32()
	r.timeout = time.Duration(d.int32()) * time.Millisecond
	r.session = d.int64()
	r.password = append([]byte(nil), d.bytes()...)
	if d.err != nil {
		r.t.Fatalf("connect was answered %x", packet)
	}
	return len(packet)
}

// open connects with a new session.
func openRaw(t testing.TB, addr string, timeout time.Duration) *raw {
	t.Helper()
	r := dialRaw(t, addr)
	r.connect(hello{timeout: timeout})
	if r.session == 0 {
		t.Fatal("no session")
	}
	return r
}

func ask(xid int32, op opcode, fill func(*encoder)) func(*encoder) {
	return func(e *encoder) {
		e.int32(xid)
		e.int32(int32(op))
		if fill != nil {
			fill(e)
		}
	}
}

// reply is a packet from the server. An event has xid -1.
type reply struct {
	xid  int32
	zxid int64
	code code
	body []byte
}

func (r *raw) reply() reply {
	r.t.Helper()
	packet := r.receive()
	d := decoder{b: packet}
	got := reply{d.int32(), d.int64(), code(d.int32()), d.b}
	if d.err != nil {
		r.t.Fatalf("no reply: %x", packet)
	}
	return got
}

// call sends one request and returns its reply; events that come before it are an error.
func (r *raw) call(op opcode, fill func(*encoder)) reply {
	r.t.Helper()
	r.packet(ask(77, op, fill))
	got := r.reply()
	if got.xid != 77 {
		r.t.Fatalf("xid %d in place of the reply to opcode %d", got.xid, op)
	}
	return got
}

func (r *raw) want(op opcode, fill func(*encoder), want code) []byte {
	r.t.Helper()
	got := r.call(op, fill)
	if got.code != want {
		r.t.Fatalf("opcode %d: code %d, want %d", op, got.code, want)
	}
	return got.body
}

type seen struct {
	event event
	path  string
}

// event returns the next packet, which must be an event.
func (r *raw) event() seen {
	r.t.Helper()
	got := r.reply()
	if got.xid != -1 || got.zxid != -1 || got.code != codeOK {
		r.t.Fatalf("not an event: %+v", got)
	}
	d := decoder{b: got.body}
	s := seen{event: event(d.int32())}
	if state := d.int32(); state != 3 {
		r.t.Fatalf("event in state %d", state)
	}
	s.path = d.text()
	return s
}

func encodeCreate(path, data string, flags int32) func(*encoder) {
	return func(e *encoder) {
		e.text(path)
		e.bytes([]byte(data))
		e.acl(openACL())
		e.int32(flags)
	}
}

func encodePath(path string) func(*encoder) { return func(e *encoder) { e.text(path) } }

func encodePathWatch(path string) func(*encoder) {
	return func(e *encoder) { e.text(path); e.bool(true) }
}

func encodePathInt(path string, v int32) func(*encoder) {
	return func(e *encoder) { e.text(path); e.int32(v) }
}

func encodeSet(path, data string) func(*encoder) {
	return func(e *encoder) { e.text(path); e.bytes([]byte(data)); e.int32(-1) }
}

// pipes is a listener without a network, for virtual time and for connections that do not buffer.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// startPipes runs a memory-only server without a network until stop.
func startPipes(t testing.TB, o Options) (dial func() *raw, s *Server, stop func()) {
	t.Helper()
	o = o.WithDefaults()
	must(t, o.Validate())
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s = newServer(o, newTree(), nil, p, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	dial = func() *raw {
		mine, theirs := net.Pipe()
		p.conns <- theirs
		return &raw{t: t, socket: mine}
	}
	return dial, s, func() {
		cancel()
		must(t, <-done)
	}
}

func TestConnectAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, Options{MinSessionTimeout: time.Second, MaxSessionTimeout: 3 * time.Second})
	first := openRaw(t, s.Addr(), 2*time.Second)
	tests := []struct {
		name    string
		hello   hello
		length  int
		timeout time.Duration
		expired bool
	}{
		{"new", hello{timeout: 2 * time.Second}, 37, 2 * time.Second, false},
		{"before 3.4", hello{timeout: 2 * time.Second, old: true}, 36, 2 * time.Second, false},
		{"too short a timeout", hello{timeout: time.Millisecond}, 37, time.Second, false},
		{"too long a timeout", hello{timeout: time.Hour}, 37, 3 * time.Second, false},
		{"a last zxid without a session", hello{timeout: 2 * time.Second, lastZxid: 1 << 40}, 37, 2 * time.Second, false},
		{"unknown session", hello{session: 12345}, 37, 0, true},
		{"unknown session before 3.4", hello{session: 12345, old: true}, 36, 0, true},
		{"wrong password", hello{session: first.session}, 37, 0, true},
		{"no password", hello{session: first.session, password: []byte{}}, 37, 0, true},
		{"of other data", hello{session: first.session, password: first.password, lastZxid: 1 << 40}, 37, 0, true},
		{"again", hello{session: first.session, password: first.password, timeout: time.Second}, 37, time.Second, false},
	}
	for _, tt := range tests { // in order: the last one takes first's session
		r := dialRaw(t, s.Addr())
		length := r.connect(tt.hello)
		if length != tt.length || r.timeout != tt.timeout || (r.session == 0) != tt.expired || len(r.password) != 16 {
			t.Errorf("%s: %d bytes, timeout %s, session %d, password of %d bytes",
				tt.name, length, r.timeout, r.session, len(r.password))
		}
		if tt.expired && r.receive() != nil {
			t.Errorf("%s: the connection goes on", tt.name)
		}
	}
	if first.receive() != nil {
		t.Error("the old connection of a session that moved goes on")
	}
}

func TestReplyHeaders(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{}).Addr(), generous)
	tests := []struct {
		name string
		send func(*encoder)
		want reply
	}{
		{"ping", ask(-2, opPing, nil), reply{xid: -2, zxid: 1}},
		{"write", ask(1, opCreate, encodeCreate("/a", "", 0)), reply{xid: 1, zxid: 2, body: []byte("\x00\x00\x00\x02/a")}},
		{"refused write", ask(2, opCreate, encodeCreate("/a", "", 0)), reply{xid: 2, zxid: 2, code: codeNodeExists}},
		{"read", ask(3, opSync, encodePath("/a")), reply{xid: 3, zxid: 2, body: []byte("\x00\x00\x00\x02/a")}},
		{"refused read", ask(4, opGetData, encodePathWatch("/b")), reply{xid: 4, zxid: 2, code: codeNoNode}},
		{"unknown opcode", ask(5, 999, encodePath("x")), reply{xid: 5, zxid: 2, code: codeUnimplemented}},
		{"reconfig", ask(6, opReconfig, nil), reply{xid: 6, zxid: 2, code: codeReconfigDisabled}},
		{"auth", ask(-4, opAuth, func(e *encoder) { e.int32(0); e.text("digest"); e.bytes([]byte("ann:secret")) }),
			reply{xid: -4, zxid: 2}},
		{"still there", ask(7, opDelete, encodePathInt("/a", -1)), reply{xid: 7, zxid: 3}},
		{"close", ask(8, opCloseSession, nil), reply{xid: 8, zxid: 4}},
	}
	for _, tt := range tests {
		r.packet(tt.send)
		if diff := cmp.Diff(tt.want, r.reply(), cmp.AllowUnexported(reply{}), cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if r.receive() != nil {
		t.Error("the connection goes on after closeSession")
	}
}

func TestPipelinedInOrder(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{Dir: t.TempDir()}).Addr(), generous)
	const n = 500
	go func() {
		var e encoder
		for i := range int32(n) {
			e.b = append(e.b, framed(ask(2*i, opCreate, encodeCreate("/s-", "", flagPersistentSequential)))...)
			e.b = append(e.b, framed(ask(2*i+1, opGetChildren, encodePathWatch("/zookeeper")))...)
		}
		r.socket.Write(e.b)
	}()
	for i := range int32(2 * n) {
		if got := r.reply(); got.xid != i || got.code != codeOK {
			t.Fatalf("reply %d has xid %d, code %d", i, got.xid, got.code)
		}
	}
}

func TestOwnEventBeforeReply(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{}).Addr(), generous)
	r.want(opExists, encodePathWatch("/a"), codeNoNode)
	r.packet(ask(9, opCreate, encodeCreate("/a", "", 0)))
	if got := r.event(); got != (seen{eventCreated, "/a"}) {
		t.Fatalf("event %v", got)
	}
	if got := r.reply(); got.xid != 9 {
		t.Fatalf("xid %d", got.xid)
	}
}

func TestMultiLayout(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{}).Addr(), generous)
	ops := func(last string) func(*encoder) {
		return func(e *encoder) {
			multiHeader(e, opCreate, -1)
			encodeCreate("/m", "", 0)(e)
			multiHeader(e, opCreate2, -1)
			encodeCreate("/m/x", "", 0)(e)
			multiHeader(e, opCheck, -1)
			encodePathInt(last, 0)(e)
			multiHeader(e, opDelete, -1)
			encodePathInt("/m/x", 0)(e)
			multiEnd(e)
		}
	}
	var refused encoder
	for _, c := range []code{codeOK, codeOK, codeNoNode, codeRuntimeInconsistency} {
		multiHeader(&refused, opError, c)
		refused.int32(int32(c))
	}
	multiEnd(&refused)
	if diff := cmp.Diff(refused.b, r.want(opMulti, ops("/no"), codeOK)); diff != "" {
		t.Errorf("refused: %s", diff)
	}
	r.want(opExists, encodePathWatch("/m"), codeNoNode)
	r.packet(ask(1, opMulti, ops("/m")))
	r.event()
	d := decoder{b: r.reply().body}
	header := func(want opcode) {
		t.Helper()
		if op, last, c := opcode(d.int32()), d.bool(), d.int32(); op != want || last || c != 0 {
			t.Fatalf("header %d %t %d, want opcode %d", op, last, c, want)
		}
	}
	header(opCreate)
	if path := d.text(); path != "/m" {
		t.Errorf("path %q", path)
	}
	header(opCreate2)
	if path := d.text(); path != "/m/x" || len(d.take(68)) != 68 {
		t.Errorf("path %q", path)
	}
	header(opCheck)
	header(opDelete)
	if op, last, c := d.int32(), d.bool(), d.int32(); op != -1 || !last || c != -1 || len(d.b) != 0 {
		t.Errorf("last header %d %t %d, then %d bytes", op, last, c, len(d.b))
	}
}

func TestMalformedEndsThatConnectionOnly(t *testing.T) {
	t.Parallel()
	s := start(t, Options{MaxNodeBytes: 4096})
	good := openRaw(t, s.Addr(), generous)
	number := func(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	tests := map[string]struct {
		hello bool
		bytes []byte
	}{
		"negative length":      {true, number(-5)},
		"too long":             {true, number(4097)},
		"too long at first":    {false, number(1 << 30)},
		"no header":            {true, framed(func(e *encoder) { e.int32(1) })},
		"short body":           {true, framed(ask(1, opGetData, func(e *encoder) { e.int32(99) }))},
		"negative text":        {true, framed(ask(1, opGetData, func(e *encoder) { e.int32(-7) }))},
		"vector without bytes": {true, framed(ask(1, opSetWatches, func(e *encoder) { e.int64(0); e.int32(1 << 30) }))},
		"multi without end":    {true, framed(ask(1, opMulti, func(e *encoder) { multiHeader(e, opCheck, -1) }))},
		"multi in multi":       {true, framed(ask(1, opMulti, func(e *encoder) { multiHeader(e, opMulti, -1) }))},
		"empty hello":          {false, number(0)},
		"protocol version":     {false, framed(func(e *encoder) { e.int32(7); e.int64(0); e.int64(0); e.int64(0) })},
		"http":                 {false, []byte("GET / HTTP/1.1\r\n\r\n")},
	}
	for name, tt := range tests {
		r := dialRaw(t, s.Addr())
		if tt.hello {
			r.connect(hello{timeout: generous})
		}
		r.socket.Write(tt.bytes)
		if b, err := io.ReadAll(r.socket); len(b) > 0 || err != nil && !isReset(err) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	good.want(opExists, encodePathWatch("/"), codeOK)
	s.stop()
	if got := s.Stats().Malformed; got != int64(len(tests)) {
		t.Errorf("%d malformed, want %d", got, len(tests))
	}
}

// isReset tells whether TCP lost the end of the stream, which it may when bytes were left unread.
func isReset(err error) bool {
	var netErr *net.OpError
	return errors.As(err, &netErr) && !netErr.Timeout()
}

// TestSmallReads covers the requests that only newer clients and tools make.
func TestSmallReads(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{}).Addr(), generous)
	r.want(opCreate, encodeCreate("/a", "data", 0), codeOK)
	r.want(opCreate, encodeCreate("/a/e", "", flagEphemeral), codeOK)
	r.want(opCreate, encodeCreate("/ab", "", flagEphemeral), codeOK)
	for path, want := range map[string]int32{"/a": 1, "/": 6, "/zookeeper": 2, "/ab": 0} {
		d := decoder{b: r.want(opCountChildren, encodePath(path), codeOK)}
		if got := d.int32(); got != want {
			t.Errorf("%s: %d below, want %d", path, got, want)
		}
	}
	for prefix, want := range map[string][]string{"/": {"/a/e", "/ab"}, "/a/": {"/a/e"}, "/b": nil} {
		d := decoder{b: r.want(opGetEphemerals, encodePath(prefix), codeOK)}
		if diff := cmp.Diff(want, d.texts()); diff != "" {
			t.Errorf("ephemerals of %s: %s", prefix, diff)
		}
	}
	d := decoder{b: r.want(opWhoAmI, nil, codeOK)}
	if n, scheme, name := d.int32(), d.text(), d.text(); n != 1 || scheme != "ip" || name != "127.0.0.1" {
		t.Errorf("who am I: %d %s %s", n, scheme, name)
	}
	d = decoder{b: r.want(opMultiRead, func(e *encoder) {
		multiHeader(e, opGetChildren, -1)
		encodePath1("/a")(e)
		multiHeader(e, opGetData, -1)
		encodePath1("/none")(e)
		multiHeader(e, opGetData, -1)
		encodePath1("/a")(e)
		multiEnd(e)
	}, codeOK)}
	header := func(op opcode, c code) {
		t.Helper()
		if gotOp, last, got := opcode(d.int32()), d.bool(), code(d.int32()); gotOp != op || last || got != c {
			t.Fatalf("header %d %t %d", gotOp, last, got)
		}
	}
	header(opGetChildren, codeOK)
	if diff := cmp.Diff([]string{"e"}, d.texts()); diff != "" {
		t.Error(diff)
	}
	header(opError, codeNoNode)
	d.int32()
	header(opGetData, codeOK)
	if data := string(d.bytes()); data != "data" || len(d.take(68)) != 68 {
		t.Errorf("data %q", data)
	}
	if op, last := d.int32(), d.bool(); op != -1 || !last {
		t.Errorf("last header %d %t", op, last)
	}
}

// TestStat checks every number of a stat, as time and zxid go on.
func TestStat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, _, stop := startPipes(t, Options{})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second}) // zxid 1
		begun := time.Now().UnixMilli()
		steps := []func(){
			func() { r.change("create", "/n") },
			func() { r.change("set", "/n") },
			func() { r.change("create", "/n/c") },
			func() { r.change("create", "/n/d") },
			func() { r.change("delete", "/n/c") },
			func() { r.change("acl", "/n") },
		}
		for _, step := range steps {
			pass(time.Second)
			step()
		}
		d := decoder{b: r.want(opExists, encodePath1("/n"), codeOK)}
		got := map[string]int64{
			"created": d.int64(), "modified": d.int64(), "created ms": d.int64() - begun, "modified ms": d.int64() - begun,
			"version": int64(d.int32()), "children version": int64(d.int32()), "ACL version": int64(d.int32()),
			"owner": d.int64(), "length": int64(d.int32()), "children": int64(d.int32()), "children modified": d.int64(),
		}
		want := map[string]int64{
			"created": 2, "modified": 3, "created ms": 1000, "modified ms": 2000, "version": 1, "children version": 3,
			"ACL version": 1, "owner": 0, "length": 3, "children": 1, "children modified": 6,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		r.want(opCreate, encodeCreate("/e", "", flagEphemeral), codeOK)
		d = decoder{b: r.want(opExists, encodePath1("/e"), codeOK)[44:]}
		if owner := d.int64(); owner != r.session {
			t.Errorf("owner %d, want %d", owner, r.session)
		}
	})
}

// TestOddRequests says what is answered to requests that client libraries do not let through. A real
// ZooKeeper, when one is named, must answer the same.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	badACL := func(path string, acl []aclEntry) func(*encoder) {
		return func(e *encoder) { e.text(path); e.bytes(nil); e.acl(acl); e.int32(0) }
	}
	tests := []struct {
		name string
		op   opcode
		fill func(*encoder)
		want code
	}{
		{"create root", opCreate, encodeCreate("/", "", 0), codeNodeExists},
		{"create below a relative path", opCreate, encodeCreate("a/b", "", 0), codeNoNode},
		{"create without a slash", opCreate, encodeCreate("a", "", 0), codeBadArguments},
		{"create nothing", opCreate, encodeCreate("", "", 0), codeBadArguments},
		{"create dots", opCreate, encodeCreate("/..", "", 0), codeBadArguments},
		{"create with a slash at the end", opCreate, encodeCreate("/odd/", "", 0), codeNoNode},
		{"create with a slash at the end of what is there", opCreate, encodeCreate("/zookeeper/", "", 0), codeBadArguments},
		{"create with a control character", opCreate, encodeCreate("/a\x01", "", 0), codeBadArguments},
		{"create outside the basic plane", opCreate, encodeCreate("/😀", "", 0), codeBadArguments},
		{"unknown flags", opCreate, encodeCreate("/odd", "", 77), codeBadArguments},
		{"TTL flag without TTL", opCreate, encodeCreate("/odd", "", flagTTL), codeBadArguments},
		{"no ACL", opCreate, badACL("/odd", nil), codeInvalidACL},
		{"no ACL and no parent", opCreate, badACL("/odd/odd", nil), codeInvalidACL},
		{"auth of nobody", opCreate, badACL("/odd", []aclEntry{{31, identity{"auth", ""}}}), codeInvalidACL},
		{"digest of nothing", opCreate, badACL("/odd", []aclEntry{{31, identity{"digest", ":"}}}), codeInvalidACL},
		{"digest with two colons", opCreate, badACL("/odd", []aclEntry{{31, identity{"digest", "a:b:c"}}}), codeInvalidACL},
		{"delete root", opDelete, encodePathInt("/", -1), codeBadArguments},
		{"delete quota", opDelete, encodePathInt("/zookeeper/quota", -1), codeBadArguments},
		{"delete without a slash", opDelete, encodePathInt("a", -1), codeBadArguments},
		{"delete a path that cannot be", opDelete, encodePathInt("/a/", -1), codeNoNode},
		{"set a path that cannot be", opSetData, encodeSet("/a/", ""), codeBadArguments},
		{"set what is not there", opSetData, encodeSet("/odd", ""), codeNoNode},
		{"ACL of a path that cannot be", opSetACL, func(e *encoder) { e.text("//"); e.acl(nil); e.int32(-1) }, codeBadArguments},
		{"no ACL of what is not there", opSetACL, func(e *encoder) { e.text("/odd"); e.acl(nil); e.int32(-1) }, codeInvalidACL},
		{"exists of a path that cannot be", opExists, encodePath1("/a//b"), codeNoNode},
		{"get of a path that cannot be", opGetData, encodePath1("a"), codeNoNode},
		{"children of what is not there", opGetChildren, encodePath1("/odd"), codeNoNode},
		{"empty multi", opMulti, multiEnd, codeOK},
		{"watches that are not there", opRemoveWatches, encodePathInt("/odd", 3), codeNoWatcher},
	}
	addrs := map[string]string{"embedded": start(t, Options{}).Addr()}
	if addr := os.Getenv(zkVariable); addr != "" {
		addrs["real"] = addr
	}
	for name, addr := range addrs {
		r := openRaw(t, addr, generous)
		for _, tt := range tests {
			if got := r.call(tt.op, tt.fill).code; got != tt.want {
				t.Errorf("%s: %s: code %d, want %d", name, tt.name, got, tt.want)
			}
		}
		path := string(r.want(opCreate, encodeCreate("/", "", flagEphemeralSequential), codeOK)[4:])
		if len(path) != 11 {
			t.Errorf("%s: sequential at the root: %q", name, path)
		}
	}
}
