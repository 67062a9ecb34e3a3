package server

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// TestBrokers: brokers of the same topics know of each other, of topics that are served from now on, and when one
// has left.
func TestBrokers(t *testing.T) {
	t.Parallel()
	c := testConfig()
	file := &configFile{config: c}
	s, _ := start(t, c, Control{Reload: file.read})
	expect := func(want ...operate.Broker) {
		t.Helper()
		eventually(t, 20*time.Second, func() string {
			got, err := s.Brokers(t.Context())
			if err != nil || fmt.Sprint(got.Brokers) != fmt.Sprint(want) {
				return fmt.Sprintf("%+v, %v; want %+v", got.Brokers, err, want)
			}
			return ""
		})
	}
	self := operate.Broker{Address: s.Addr(), Self: true, Topics: 1}
	expect(self)

	c.ZKHost, c.BindingsFile, c.Topics = s.RegistryAddr(), "", []string{"trade", "fee"}
	other, err := New(c, Control{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- other.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-other.Started()
	expect(self, operate.Broker{Address: other.Addr(), Topics: 1})
	file.set(nil, "trade", "fee")
	if _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	self.Topics = 2
	expect(self, operate.Broker{Address: other.Addr(), Topics: 2})
	cancel()
	expect(self)
}
