package embedded

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
)

func TestListenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	_, err := Listen(Options{Addr: s.Addr()}, nil)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), s.Addr()) || !strings.Contains(err.Error(), "-zkhost="+s.Addr()) {
		t.Errorf("port taken: %v", err)
	}
	if _, err = Listen(Options{Addr: "127.0.0.1:0", Dir: dir}, nil); !errors.Is(err, syscall.EWOULDBLOCK) || !strings.Contains(err.Error(), dir) {
		t.Errorf("directory taken: %v", err)
	}
	// The port is tried after the directory, and a failure frees the directory.
	other := t.TempDir()
	for range 2 {
		if _, err = Listen(Options{Addr: s.Addr(), Dir: other}, nil); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port taken: %v", err)
		}
	}
	s.stop()
	again, err := Listen(Options{Addr: s.Addr(), Dir: dir}, nil)
	must(t, err)
	must(t, again.Close())
	must(t, again.Close())
	start(t, Options{Addr: s.Addr(), Dir: dir})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{}).WithDefaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	tests := []struct {
		set  func(*Options)
		want string
	}{
		{func(o *Options) { o.Addr = "2181" }, `addr "2181"`},
		{func(o *Options) { o.MinSessionTimeout = time.Millisecond }, "min session timeout 1ms"},
		{func(o *Options) { o.MaxSessionTimeout = time.Second }, "max session timeout 1s"},
		{func(o *Options) { o.MaxSessionTimeout = 48 * time.Hour }, "max session timeout 48h"},
		{func(o *Options) { o.MaxConnections = -1 }, "max connections -1"},
		{func(o *Options) { o.MaxSessions = -1 }, "max sessions -1"},
		{func(o *Options) { o.MaxNodeBytes = 100 }, "max node bytes 100"},
		{func(o *Options) { o.MaxTreeBytes = 5 }, "max tree bytes 5"},
		{func(o *Options) { o.MaxWatches = -1 }, "max watches -1"},
		{func(o *Options) { o.MaxQueueBytes = 5 }, "max queue bytes 5"},
		{func(o *Options) { o.SnapshotBytes = 5 }, "snapshot bytes 5"},
		{func(o *Options) { o.ReapInterval = 5 }, "reap interval 5ns"},
	}
	for _, tt := range tests {
		var o Options
		tt.set(&o)
		if _, err := Listen(o, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	all := Options{Addr: "x", MaxWatches: -1}.WithDefaults().Validate()
	if !strings.Contains(all.Error(), "addr") || !strings.Contains(all.Error(), "max watches") {
		t.Errorf("not all that is wrong: %v", all)
	}
}

func TestConnectionAndSessionBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{MaxConnections: 2, MaxSessions: 3})
		defer stop()
		a, b := dial(), dial()
		a.connect(hello{timeout: 40 * time.Second})
		b.connect(hello{timeout: 40 * time.Second})
		if dial().receive() != nil {
			t.Error("a third connection is served")
		}
		b.socket.Close()
		synctest.Wait()
		c := dial()
		c.connect(hello{timeout: 40 * time.Second})
		c.socket.Close()
		synctest.Wait()
		d := dial()
		d.packet(hello{timeout: 40 * time.Second}.encode)
		if d.receive() != nil {
			t.Error("a fourth session is opened")
		}
		synctest.Wait()
		a.want(opCloseSession, nil, codeOK)
		synctest.Wait()
		e := dial()
		e.connect(hello{timeout: 40 * time.Second})
		if got := s.Stats(); got.Refused != 2 || got.Sessions != 3 || got.Connections != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestTreeBound(t *testing.T) {
	t.Parallel()
	r := openRaw(t, start(t, Options{MaxTreeBytes: 1 << 20}).Addr(), generous)
	big := strings.Repeat("x", 300<<10)
	for i := range 3 {
		r.want(opCreate, encodeCreate(fmt.Sprintf("/%d", i), big, 0), codeOK)
	}
	r.want(opCreate, encodeCreate("/3", big, 0), codeQuotaExceeded)
	r.want(opSetData, encodeSet("/0", big+big), codeQuotaExceeded)
	r.want(opMulti, func(e *encoder) { // what it takes and gives back counts together
		multiHeader(e, opDelete, -1)
		encodePathInt("/0", -1)(e)
		multiHeader(e, opCreate, -1)
		encodeCreate("/3", big, 0)(e)
		multiEnd(e)
	}, codeOK)
	r.want(opExists, encodePath1("/3"), codeOK)
	r.want(opSetData, encodeSet("/1", "small"), codeOK)
	r.want(opCreate, encodeCreate("/0", big, 0), codeOK)
}

// TestSlowReaderIsClosed: a client that does not read its events costs at most MaxQueueBytes.
func TestSlowReaderIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := Options{MaxNodeBytes: 1024, MaxQueueBytes: 40 * 1024}
		dial, s, stop := startPipes(t, o)
		defer stop()
		slow, other := dial(), dial()
		slow.connect(hello{timeout: 40 * time.Second})
		other.connect(hello{timeout: 40 * time.Second})
		slow.want(opAddWatch, encodePathInt("/", 1), codeOK)
		other.want(opCreate, encodeCreate("/a", "", 0), codeOK)
		for range 3000 {
			other.want(opSetData, encodeSet("/a", ""), codeOK)
		}
		synctest.Wait()
		if got := s.Stats(); got.Slow != 1 || got.Connections != 1 {
			t.Errorf("%+v", got)
		}
		slow.socket.Close()
	})
}

// TestWindow: a client that asks and does not read is not read either, and nothing is lost.
func TestWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second})
		const n = 200
		go func() {
			for i := range int32(n) {
				r.socket.Write(framed(ask(i, opSync, encodePath("/"))))
			}
		}()
		synctest.Wait()
		if got := s.Stats().Received; got != window {
			t.Errorf("%d requests taken, want %d", got, window)
		}
		for i := range int32(n) {
			if got := r.reply(); got.xid != i {
				t.Fatalf("xid %d, want %d", got.xid, i)
			}
		}
	})
}

func TestFourLetterWords(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	c := dial(t, s.Addr(), generous)
	mustCreate(t, c, "/a", "", 0)
	addrs := []string{s.Addr()}
	if ok := zk.FLWRuok(addrs, generous); !ok[0] {
		t.Error("ruok: not ok")
	}
	stats, ok := zk.FLWSrvr(addrs, generous)
	if !ok || stats[0].Mode != zk.ModeStandalone || stats[0].NodeCount != 5 || stats[0].Counter != 2 ||
		stats[0].Version != "3.8.0-kiteq-embedded" || stats[0].Connections < 1 {
		t.Errorf("srvr: %+v", stats[0])
	}
	for word, want := range map[string]string{"mntr": "zk_znode_count\t5\n", "isro": "rw"} {
		r := dialRaw(t, s.Addr())
		r.socket.Write([]byte(word))
		var b [4096]byte
		n := 0
		for {
			k, err := r.socket.Read(b[n:])
			n += k
			if err != nil {
				break
			}
		}
		if !strings.Contains(string(b[:n]), want) {
			t.Errorf("%s: %q", word, b[:n])
		}
	}
}

func TestRunEndsWithEverything(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: t.TempDir()})
	idle := openRaw(t, s.Addr(), generous)
	silent, err := net.Dial("tcp", s.Addr())
	must(t, err)
	defer silent.Close()
	busy := openRaw(t, s.Addr(), generous)
	go func() {
		for {
			if _, err := busy.socket.Write(framed(ask(1, opCreate, encodeCreate("/s-", "", 2)))); err != nil {
				return
			}
		}
	}()
	s.stop()
	if idle.receive() != nil {
		t.Error("a connection is left")
	}
	if got := s.Stats().Connections; got != 0 {
		t.Errorf("%d connections left", got)
	}
}

// TestStuckAtTheEnd: a client that closes its session and never reads is closed all the same.
func TestStuckAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second})
		r.socket.Write(framed(ask(1, opSync, encodePath("/"))))
		r.socket.Write(framed(ask(2, opCloseSession, nil)))
		pass(handshakeTimeout + 2*lingerTimeout)
		synctest.Wait()
		if got := s.Stats(); got.Sessions != 0 || got.Connections != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// TestLargeReadsAreNotCutOff: a window of the largest reads fits into what may wait.
func TestLargeReadsAreNotCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 64 << 10
		dial, s, stop := startPipes(t, Options{MaxNodeBytes: size})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second})
		r.want(opCreate, encodeCreate("/a", strings.Repeat("x", size-100), 0), codeOK)
		const n = 3 * window
		go func() {
			for i := range int32(n) {
				r.socket.Write(framed(ask(i, opGetData, encodePath1("/a"))))
			}
		}()
		synctest.Wait()
		for i := range int32(n) {
			if got := r.reply(); got.xid != i || len(got.body) != 4+size-100+68 {
				t.Fatalf("reply %d: xid %d, %d bytes", i, got.xid, len(got.body))
			}
		}
		if got := s.Stats().Slow; got != 0 {
			t.Errorf("%d cut off", got)
		}
	})
}
