package zk_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry/zk"
)

// mute is a connection whose writes fail but for the first: a handshake, and nothing more.
type mute struct {
	net.Conn
	writes atomic.Int32
}

func (m *mute) Write(b []byte) (int, error) {
	if m.writes.Add(1) > 1 {
		return 0, errors.New("broken pipe")
	}
	return m.Conn.Write(b)
}

// TestLibraryStuck: the library's loop waits for ever in a channel when the credentials cannot be written on a
// connection that follows. The registry leaves it behind and connects anew. The same happens, once in some ten
// thousand times, when a handle is closed while requests are under way.
func TestLibraryStuck(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	var dials atomic.Int32
	first := make(chan net.Conn, 1)
	again := make(chan struct{})
	reg := zktest.OpenRegistry(t, zk.Options{
		Hosts: []string{server.Addr()}, Auth: "kite:secret", SessionTimeout: 2 * time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			switch dials.Add(1) {
			case 1:
				first <- conn
			case 2:
				return &mute{Conn: conn}, nil
			case 3:
				close(again)
			}
			return conn, nil
		},
	})
	mustNot(t, reg.CreateTopics(t.Context(), []string{"trade"}))
	mustNot(t, (<-first).Close())
	select {
	case <-again:
	case <-time.After(patience):
		t.Fatal("not connected anew")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustNot(t, reg.CreateTopics(ctx, []string{"order"}))
}
