package compat_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	kiteq "github.com/kiteq/kiteq/client"
	client "github.com/kiteq/kiteq/client/compat"
	"github.com/kiteq/kiteq/client/compat/protocol"
	"github.com/kiteq/kiteq/client/compat/registry"
)

func TestSentAsTheMessageSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.start("p-shop", nil)
	m := client.BuildByteMessage("trade", "pay", bytes.Repeat([]byte("x"), 1000), true)
	m.Header.Properties = []*protocol.Entry{{Key: new("k"), Value: new("v")}}
	m.Header.DeliverLimit, m.Header.ExpiredTime, m.Header.CreateTime = new(int32(7)), new(int64(2_000_000_000)), new(int64(1_700_000_000))
	before, err := protocol.MarshalPbMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	var sent []byte
	for i := range 2 {
		if err := k.SendBytesMessage(m); err != nil {
			t.Fatal(err)
		}
		p := mustNext(t, &b.broker.Published)
		h := p.Header
		if h.GetMessageId() != m.GetHeader().GetMessageId() || h.GetGroupId() != "p-shop" || h.GetDeliverLimit() != 7 || !h.GetCommit() || !h.GetSnappy() ||
			h.GetExpiredTime() != 2_000_000_000 || h.GetCreateTime() != 1_700_000_000 || h.GetProperties()[0].GetValue() != "v" {
			t.Errorf("sent header %v", h)
		}
		if plain, err := client.Decompress(p.Body); err != nil || !bytes.Equal(plain, m.GetBody()) {
			t.Errorf("body %x, %v", p.Body, err)
		}
		if i == 1 && !bytes.Equal(sent, p.Payload) {
			t.Error("sent again, it is another message")
		}
		sent = p.Payload
	}
	if after, err := protocol.MarshalPbMessage(m); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the caller's message became %v", m)
	}
}

func TestTransactionOutcomes(t *testing.T) {
	t.Parallel()
	failed := errors.New("duplicate key")
	tests := []struct {
		name     string
		done     bool
		err      error
		returned error
		status   int32 // -1: none
		feedback string
	}{
		{"done", true, nil, nil, 1, ""},
		{"not done", false, nil, nil, 2, "returned false"},
		{"failed", false, failed, failed, 2, "duplicate key"},
		{"failed though done", true, failed, failed, 2, "duplicate key"},
		{"unknown", false, context.DeadlineExceeded, kiteq.Indeterminate, -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			k := b.start("p-shop", nil)
			m := client.BuildByteMessage("trade", "pay", []byte("17"), true) // commit: SendTx prepares all the same
			err := k.SendTxBytesMessage(m, func(q *protocol.QMessage) (bool, error) {
				if string(q.GetBody().([]byte)) != "17" || q.GetMsgType() != protocol.CMD_BYTES_MESSAGE || q.GetHeader().GetMessageId() != m.GetHeader().GetMessageId() {
					t.Errorf("the transaction is about %v", q.GetPbMessage())
				}
				return tt.done, tt.err
			})
			if !errors.Is(err, tt.returned) || tt.returned == nil && err != nil || err == client.TIMEOUT_ERROR {
				t.Errorf("returned %v, want %v", err, tt.returned)
			}
			if p := mustNext(t, &b.broker.Published); p.Header.GetCommit() {
				t.Error("sent committed")
			}
			if tt.status < 0 {
				if b.broker.Stored() != 1 || b.broker.Verdicts.Len() != 0 {
					t.Errorf("%d verdicts, %d stored", b.broker.Verdicts.Len(), b.broker.Stored())
				}
				b.broker.Recover() // the default listener leaves it undecided, where the original's committed
				if v := mustNext(t, &b.broker.Verdicts); v.Status != 0 || !v.Checked || b.broker.Stored() != 1 {
					t.Errorf("the check is answered %+v, %d stored", v, b.broker.Stored())
				}
				return
			}
			if v := mustNext(t, &b.broker.Verdicts); v.Status != tt.status || !strings.Contains(v.Feedback, tt.feedback) {
				t.Errorf("verdict %+v", v)
			}
		})
	}
}

// checker answers checks with a function.
type checker struct {
	client.MockListener
	answer func(tx *protocol.TxResponse) error
}

func (c *checker) OnMessageCheck(tx *protocol.TxResponse) error { return c.answer(tx) }

func TestCheckAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer func(tx *protocol.TxResponse) error
		status int32
	}{
		{"commit", func(tx *protocol.TxResponse) error { tx.Commit(); return nil }, 1},
		{"rollback", func(tx *protocol.TxResponse) error { tx.Rollback("why"); return nil }, 2},
		{"unknown", func(tx *protocol.TxResponse) error { tx.Commit(); tx.Unknown(""); return nil }, 0},
		{"no decision", func(*protocol.TxResponse) error { return nil }, 0},
		{"error", func(tx *protocol.TxResponse) error { tx.Commit(); return errors.New("no database") }, 0},
		{"panic", func(*protocol.TxResponse) error { panic("boom") }, 0},
		{"by property", func(tx *protocol.TxResponse) error {
			if order, ok := tx.GetProperty("order"); ok && order == "17" && tx.Topic == "trade" && tx.MessageType == "pay" {
				tx.Commit()
			}
			return nil
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			k := b.start("p-shop", func(k *client.KiteQClient) { k.SetListener(&checker{answer: tt.answer}) })
			m := client.BuildByteMessage("trade", "pay", []byte("17"), false)
			m.Header.Properties = []*protocol.Entry{{Key: new("order"), Value: new("17")}}
			if err := k.SendBytesMessage(m); err != nil {
				t.Fatal(err)
			}
			b.broker.Recover()
			if v := mustNext(t, &b.broker.Verdicts); v.Status != tt.status || !v.Checked {
				t.Errorf("answered %+v, want %d", v, tt.status)
			}
		})
	}
}

// listening counts what the embedded default listener would have hidden.
type listening struct {
	*client.KiteQListener
	got chan *protocol.QMessage
}

func (l *listening) OnMessage(msg *protocol.QMessage) bool {
	l.got <- msg
	return msg.GetHeader().GetMessageType() == "good"
}

func TestListenerGetsTheMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind("s-shop")
	l := &listening{client.NewKiteQListener(), make(chan *protocol.QMessage, 8)}
	k := b.start("s-shop", func(k *client.KiteQClient) {
		k.SetListener(l)
		k.SetBindings([]*registry.Binding{registry.Bind_Fanout("whoever", "trade", -1, true)})
	})
	if k.GetListener() != client.IListener(l) {
		t.Error("another listener")
	}
	text := &protocol.StringMessage{Header: client.BuildByteMessage("trade", "good", nil, true).Header, Body: new("text")}
	text.Header.Properties = []*protocol.Entry{{Key: new("k"), Value: new("v")}}
	if err := k.SendStringMessage(text); err != nil {
		t.Fatal(err)
	}
	q := <-l.got
	h := q.GetHeader()
	if q.Body != "text" || q.GetMsgType() != protocol.CMD_STRING_MESSAGE || h.GetMessageId() != text.GetHeader().GetMessageId() ||
		h.GetProperties()[0].GetValue() != "v" || h.GetExpiredTime() <= 0 || h.GetCreateTime() <= 0 || h.GetDeliverLimit() != 100 || !h.GetSnappy() || !h.GetCommit() {
		t.Errorf("received %v", q.GetPbMessage())
	}
	if ack := mustNext(t, &b.broker.Acks); !ack.Ack.GetStatus() {
		t.Errorf("ack %+v", ack)
	}
	if !client.SendBytesMessage(k, []byte("x"), "trade", "bad") {
		t.Error("not sent")
	}
	if ack := mustNext(t, &b.broker.Acks); ack.Ack.GetStatus() {
		t.Errorf("ack %+v", ack)
	}
}

func TestHandlerFailuresAndMiddlewares(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind("s-shop")
	var order []string
	middleware := func(name string) client.MiddleWare {
		return func(next client.Chain) client.Chain {
			return func(ctx *client.Context) error {
				order = append(order, name)
				return next(ctx)
			}
		}
	}
	k := b.start("s-shop", func(k *client.KiteQClient) {
		k.GetListener().AddMiddleWares(middleware("replaced")).AddMiddleWares(middleware("inner"), middleware("outer"))
		k.SetBindings([]*registry.Binding{
			registry.Bind_Regx("", "trade", "^fail-", 0, true).WithHandler(func(body interface{}) (bool, error) {
				switch string(body.([]byte)) {
				case "error":
					return true, errors.New("no stock")
				case "panic":
					panic("boom")
				}
				return false, nil
			}),
			registry.Bind_Fanout("", "trade", 0, true), // without a handler
		})
	})
	for _, tt := range []struct{ messageType, body, feedback string }{
		{"fail-1", "error", "no stock"},
		{"fail-1", "panic", "boom"},
		{"fail-1", "false", "refused"},
		{"other", "x", "no handler for topic trade, type other"},
	} {
		order = nil
		if !client.SendBytesMessage(k, []byte(tt.body), "trade", tt.messageType) {
			t.Fatal("not sent")
		}
		for range 3 { // the broker tries three times at once
			if ack := mustNext(t, &b.broker.Acks); ack.Ack.GetStatus() || !strings.Contains(ack.Ack.GetFeedback(), tt.feedback) {
				t.Errorf("%s: ack %+v, want %q", tt.body, ack, tt.feedback)
			}
		}
		if got := strings.Join(order, " "); got != "outer inner outer inner outer inner" {
			t.Errorf("middlewares ran %q", got)
		}
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bindings := func(all ...*registry.Binding) func(*client.KiteQClient) {
		return func(k *client.KiteQClient) { k.SetBindings(all) }
	}
	wrong := registry.Bind_Fanout("", "trade", 0, true)
	wrong.BindType = 9
	for _, tt := range []struct {
		name, uri string
		change    func(*client.KiteQClient)
		text      string
	}{
		{"uri", "etcd://x", nil, "etcd"},
		{"file", "file:///nowhere/at/all.yaml", nil, "/nowhere/at/all.yaml"},
		{"topic", b.uri, func(k *client.KiteQClient) { k.SetTopics([]string{"a/b"}) }, `"a/b"`},
		{"pattern", b.uri, bindings(registry.Bind_Regx("", "trade", "(", 0, true)), `"("`},
		{"bind type", b.uri, bindings(wrong), "type 9"},
		{"nil binding", b.uri, bindings(nil), "a binding is nil"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := client.NewKiteQClient(context.Background(), tt.uri, "g", "")
			defer k.Destroy()
			if tt.change != nil {
				tt.change(k)
			}
			if err := k.Start(); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %q", err, tt.text)
			}
			if err := k.SendBytesMessage(client.BuildByteMessage("trade", "x", nil, true)); err == nil {
				t.Error("sent by a client that is not started")
			}
		})
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	k := client.NewKiteQClient(ctx, b.uri, "g", "")
	k.SetTopics([]string{"trade"})
	k.SetPreEnv(true)
	if err := k.SendBytesMessage(client.BuildByteMessage("trade", "x", nil, true)); !errors.Is(err, kiteq.Invalid) {
		t.Errorf("send before start: %v", err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if group := mustNext(t, &b.broker.Connects); group != "g-pre" {
		t.Errorf("connected as %s, want g-pre", group)
	}
	if err := k.Start(); !errors.Is(err, kiteq.Invalid) {
		t.Errorf("second start: %v", err)
	}
	for _, err := range []error{k.SendBytesMessage(nil), k.SendStringMessage(&protocol.StringMessage{}), k.SendTxBytesMessage(client.BuildByteMessage("trade", "x", nil, true), nil)} {
		if !errors.Is(err, kiteq.Invalid) {
			t.Errorf("got %v, want Invalid", err)
		}
	}
	b.broker.LoseAcks(1)
	if err := k.SendBytesMessage(client.BuildByteMessage("trade", "x", nil, true)); err != client.TIMEOUT_ERROR || !errors.Is(err, kiteq.Indeterminate) {
		t.Errorf("without an answer: %v, want TIMEOUT_ERROR", err)
	}
	cancel() // is a Destroy
	for {
		err := k.SendBytesMessage(client.BuildByteMessage("trade", "x", nil, true))
		if errors.Is(err, kiteq.Unavailable) && strings.Contains(err.Error(), "destroyed") {
			break
		}
	}
	k.Destroy()
}

func TestMock(t *testing.T) {
	t.Parallel()
	k := client.NewMockKiteQClient("zk://nowhere:1", "g", "")
	m := client.BuildByteMessage("trade", "x", nil, true)
	never := func(*protocol.QMessage) (bool, error) { t.Error("the transaction ran"); return true, nil }
	for _, err := range []error{
		k.Start(), k.SendBytesMessage(m), k.SendStringMessage(nil), k.SendTxBytesMessage(m, never), k.SendTxStringMessage(nil, never),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	k.SetListener(&client.MockListener{})
	if !k.GetListener().OnMessage(nil) {
		t.Error("the mock listener refuses")
	}
	k.Destroy()
}

func TestCompress(t *testing.T) {
	t.Parallel()
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("kiteq"), 1000)} {
		block, err := client.Compress(data)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := client.Decompress(block); err != nil || !bytes.Equal(plain, data) {
			t.Errorf("%d bytes came back as %d, %v", len(data), len(plain), err)
		}
	}
	if _, err := client.Decompress([]byte("junk")); !errors.Is(err, kiteq.Invalid) {
		t.Errorf("junk: %v", err)
	}
	if _, err := client.Decompress([]byte("\xff\xff\xff\xff\x07")); !errors.Is(err, kiteq.TooLarge) {
		t.Errorf("a bomb: %v", err)
	}
	if _, err := client.Compress(make([]byte, kiteq.MaxDecompressed+1)); !errors.Is(err, kiteq.TooLarge) {
		t.Errorf("too long: %v", err)
	}
}

func TestRandomSelector(t *testing.T) {
	t.Parallel()
	var s client.Strategy = client.RandomSelector{}
	seen := map[string]bool{}
	for range 1000 {
		seen[s.Select([]string{"a", "b"})] = true
	}
	if len(seen) != 2 || s.Select(nil) != "" {
		t.Errorf("selected %v", seen)
	}
}

// A listener that is set last has the handlers, a connection that breaks comes back, and what no binding
// matches is refused before it reaches the listener.
func TestListenerSetLast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bind("s-shop")
	got := make(chan interface{}, 8)
	k := b.start("s-shop", func(k *client.KiteQClient) {
		k.SetBindings([]*registry.Binding{registry.Bind_Direct("", "trade", "pay", 0, true).WithHandler(func(body interface{}) (bool, error) {
			got <- body
			return true, nil
		})})
		k.SetListener(nil)
		k.SetListener(client.NewKiteQListener())
	})
	mustNext(t, &b.broker.Connects)
	for range 2 {
		if !client.SendBytesMessage(k, []byte("17"), "trade", "pay") {
			t.Fatal("not sent")
		}
		if body := <-got; string(body.([]byte)) != "17" {
			t.Errorf("received %v", body)
		}
		if ack := mustNext(t, &b.broker.Acks); !ack.Ack.GetStatus() {
			t.Errorf("ack %+v", ack)
		}
		b.broker.Drop()
		mustNext(t, &b.broker.Connects)
	}
	if !client.SendBytesMessage(k, []byte("x"), "trade", "other") {
		t.Fatal("not sent")
	}
	if ack := mustNext(t, &b.broker.Acks); ack.Ack.GetStatus() || !strings.Contains(ack.Ack.GetFeedback(), "no subscription") {
		t.Errorf("ack %+v", ack)
	}
}

// safeBuffer is a buffer that many may write to.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func TestFeedbackIsLogged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var log safeBuffer
	listener := &checker{answer: func(tx *protocol.TxResponse) error { tx.Rollback("the order was cancelled"); return nil }}
	k := b.start("p-shop", func(k *client.KiteQClient) {
		k.SetLog(slog.New(slog.NewTextHandler(&log, nil)))
		k.SetListener(listener)
	})
	if err := k.SendBytesMessage(client.BuildByteMessage("trade", "pay", nil, false)); err != nil {
		t.Fatal(err)
	}
	b.broker.Recover()
	mustNext(t, &b.broker.Verdicts)
	if text := log.String(); !strings.Contains(text, "the order was cancelled") || !strings.Contains(text, "verdict=rollback") {
		t.Errorf("logged %s", text)
	}
}
