package zktest_test

import (
	"bufio"
	"io"
	"net"
	"testing"

	libzk "github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/zktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProxy(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-served })
	p := zktest.NewProxy(t, l.Addr().String())

	first := dial(t, p)
	if got, err := echo(first, "one\n"); got != "one\n" || err != nil {
		t.Fatalf("echo %q, error %v", got, err)
	}
	p.Cut()
	if got, err := echo(first, "two\n"); err == nil {
		t.Errorf("echo %q through a cut link", got)
	}
	if got, err := echo(dial(t, p), "three\n"); err == nil {
		t.Errorf("echo %q through a new connection of a cut link", got)
	}
	p.Heal()
	if got, err := echo(dial(t, p), "four\n"); got != "four\n" || err != nil {
		t.Errorf("after healing: echo %q, error %v", got, err)
	}
}

func dial(t *testing.T, p *zktest.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func echo(conn net.Conn, text string) (string, error) {
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestServer(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	addr := server.Addr()
	create := func() error {
		_, err := zktest.Raw(t, addr).Create("/kept", []byte("x"), libzk.FlagPersistent, libzk.WorldACL(libzk.PermAll))
		return err
	}
	if err := create(); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	if err := create(); err != libzk.ErrNodeExists {
		t.Errorf("after Restart: %v, want %v", err, libzk.ErrNodeExists)
	}
	server.Stop()
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Error("a stopped server accepts connections")
	}
	server.Wipe()
	if err := create(); err != nil {
		t.Errorf("after Wipe: %v, want an empty server", err)
	}
	if server.Addr() != addr {
		t.Errorf("the address became %s, it was %s", server.Addr(), addr)
	}
}
