package client_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

// answering makes a listener that always gives v.
func answering(v client.Verdict) func(*client.Options) {
	return func(o *client.Options) {
		o.CheckListener = func(context.Context, client.Check) client.Verdict { return v }
	}
}

func TestPublishTxVerdicts(t *testing.T) {
	t.Parallel()
	const none = -1
	broken := errors.New("duplicate key")
	wrapped := func(err error) error { return fmt.Errorf("commit: %w", err) }
	tests := []struct {
		name          string
		result        error
		status        int32
		indeterminate bool
	}{
		{"nil", nil, 1, false},
		{"definite", broken, 2, false},
		{"unknown outcome", wrapped(client.ErrUnknownOutcome), none, true},
		{"deadline", wrapped(context.DeadlineExceeded), none, true},
		{"canceled", wrapped(context.Canceled), none, true},
		{"bad connection", wrapped(driver.ErrBadConn), none, true},
		{"end of file", wrapped(io.ErrUnexpectedEOF), none, true},
		{"network", wrapped(&net.OpError{Op: "read", Err: errors.New("reset")}), none, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			c := b.dial(answering(client.Unknown))
			err := c.PublishTx(t.Context(), message(), func(context.Context) error {
				if p := mustNext(t, &b.broker.Published); p.Commit {
					t.Error("sent as committed before the local transaction")
				}
				return tt.result
			})
			if !errors.Is(err, tt.result) || errors.Is(err, client.Indeterminate) != tt.indeterminate {
				t.Errorf("got %v, want %v, indeterminate %v", err, tt.result, tt.indeterminate)
			}
			if tt.status == none {
				// A verdict would arrive before this one.
				if err := c.Decide(t.Context(), "trade", client.NewID(), client.Rollback, "marker"); err != nil {
					t.Fatal(err)
				}
				if v := mustNext(t, &b.broker.Verdicts); v.Feedback != "marker" {
					t.Errorf("verdict %+v, want none", v)
				}
				return
			}
			v := mustNext(t, &b.broker.Verdicts)
			if v.Status != tt.status || v.Topic != "trade" || len(v.ID) != 32 || v.Opaque < 0x8000_0000 {
				t.Errorf("verdict %+v, want status %d", v, tt.status)
			}
			if tt.status == 2 && v.Feedback != broken.Error() {
				t.Errorf("rolled back with %q, want %q", v.Feedback, broken)
			}
		})
	}
}

func TestPublishTxPanic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(answering(client.Commit))
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic did not get out")
			}
		}()
		_ = c.PublishTx(t.Context(), message(), func(context.Context) error { panic("boom") })
	}()
	p := mustNext(t, &b.broker.Published)
	opaque, err := b.broker.Check("g", p)
	if err != nil {
		t.Fatal(err)
	}
	if v := mustNext(t, &b.broker.Verdicts); v.Opaque != opaque || v.Status != 1 {
		t.Errorf("after the panic %+v, want the listener's answer to check %#x", v, opaque)
	}
}

func TestPublishTxNeedsListener(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := b.dial(nil).PublishTx(t.Context(), message(), func(context.Context) error { t.Error("fn ran"); return nil })
	if !errors.Is(err, client.Invalid) || !strings.Contains(err.Error(), "Options.CheckListener") {
		t.Errorf("got %v", err)
	}
	if b.broker.Published.Len() != 0 {
		t.Error("the message was sent")
	}
}

func TestPublishTxNotStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Refuse("Expired Message!") })
	err := b.dial(answering(client.Commit)).PublishTx(t.Context(), message(), func(context.Context) error { t.Error("fn ran"); return nil })
	if !errors.Is(err, client.Expired) {
		t.Errorf("got %v, want Expired", err)
	}
}

// The verdict goes to the broker that holds the message, also over a new connection, and also when
// ctx is over.
func TestVerdictAfterReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(answering(client.Unknown))
	mustNext(t, &b.broker.Connects)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.PublishTx(ctx, message(), func(context.Context) error {
		b.broker.Drop()
		mustNext(t, &b.broker.Connects)
		cancel()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, v := mustNext(t, &b.broker.Published), mustNext(t, &b.broker.Verdicts)
	if v.ID != p.ID || v.Status != 1 {
		t.Errorf("verdict %+v, want commit of %s", v, p.ID)
	}
}

func TestVerdictCannotBeSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) {
		answering(client.Unknown)(o)
		o.AckTimeout = 100 * time.Millisecond
	})
	for _, result := range []error{nil, errors.New("no row")} {
		err := c.PublishTx(t.Context(), message(), func(context.Context) error {
			b.broker.OnConnect(func(clienttest.Connect) string { return "go away" })
			b.broker.Drop()
			return result
		})
		if !errors.Is(err, client.Indeterminate) || !errors.Is(err, result) && result != nil || !strings.Contains(err.Error(), "the check will decide") {
			t.Errorf("fn gave %v: got %v, want Indeterminate", result, err)
		}
		b.broker.OnConnect(nil)
	}
}

func TestTransactionEndsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	ends := map[string]func(*client.Transaction) error{
		"commit":   func(tx *client.Transaction) error { return tx.Commit(t.Context()) },
		"rollback": func(tx *client.Transaction) error { return tx.Rollback(t.Context(), "why") },
		"leave":    func(tx *client.Transaction) error { tx.Leave(); return nil },
	}
	for name, end := range ends {
		tx, err := c.Prepare(t.Context(), message())
		if err != nil {
			t.Fatal(err)
		}
		m := message()
		m.ID = tx.ID()
		if _, err := c.Prepare(t.Context(), m); !errors.Is(err, client.Invalid) {
			t.Errorf("second Prepare of the id: %v, want Invalid", err)
		}
		if err := end(tx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := tx.Commit(t.Context()); !errors.Is(err, client.Invalid) {
			t.Errorf("commit after %s: %v, want Invalid", name, err)
		}
		tx.Leave()
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		listen client.CheckFunc
		status int32
		text   string
	}{
		{"commit", func(context.Context, client.Check) client.Verdict { return client.Commit }, 1, ""},
		{"rollback", func(context.Context, client.Check) client.Verdict { return client.Rollback }, 2, ""},
		{"unknown", func(context.Context, client.Check) client.Verdict { return client.Unknown }, 0, ""},
		{"nonsense", func(context.Context, client.Check) client.Verdict { return 7 }, 0, "verdict 7"},
		{"panic", func(context.Context, client.Check) client.Verdict { panic("boom") }, 0, "boom"},
		{"late", func(ctx context.Context, _ client.Check) client.Verdict { <-ctx.Done(); return client.Commit }, 0, "no answer within 50ms"},
		{"none", nil, 0, "no check listener"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.dial(func(o *client.Options) {
				o.CheckListener = tt.listen
				if tt.name == "late" {
					o.CheckTimeout = 50 * time.Millisecond
				}
			})
			p := stored("trade", "pay", "")
			opaque, err := b.broker.Check("g", p)
			if err != nil {
				t.Fatal(err)
			}
			v := mustNext(t, &b.broker.Verdicts)
			if v.Opaque != opaque || v.ID != p.ID || v.Status != tt.status || !strings.Contains(v.Feedback, tt.text) {
				t.Errorf("answered %+v, want status %d and %q", v, tt.status, tt.text)
			}
		})
	}
}

func TestCheckTellsTheListener(t *testing.T) {
	t.Parallel()
	b := setup(t)
	asked := make(chan client.Check, 1)
	b.dial(func(o *client.Options) {
		o.CheckListener = func(_ context.Context, c client.Check) client.Verdict { asked <- c; return client.Commit }
	})
	p := stored("trade", "pay", "")
	p.Properties = map[string]string{"order": "17"}
	if _, err := b.broker.Check("g", p); err != nil {
		t.Fatal(err)
	}
	want := client.Check{
		ID: p.ID, Topic: "trade", Type: "pay", Properties: p.Properties, Created: time.Unix(1_700_000_000, 0), Broker: b.broker.Addr(),
	}
	if got := <-asked; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("asked %+v, want %+v", got, want)
	}
}

// While the local transaction runs nobody can know its outcome, least of all a listener that looks
// for the row.
func TestCheckWhileTransactionRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) {
		o.CheckListener = func(context.Context, client.Check) client.Verdict {
			t.Error("the listener was asked")
			return client.Rollback
		}
	})
	m := message()
	m.ID = strings.ToUpper(client.NewID())
	err := c.PublishTx(t.Context(), m, func(context.Context) error {
		opaque, err := b.broker.Check("g", mustNext(t, &b.broker.Published))
		if err != nil {
			return err
		}
		if v := mustNext(t, &b.broker.Verdicts); v.Opaque != opaque || v.Status != 0 {
			t.Errorf("answered %+v, want unknown", v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := mustNext(t, &b.broker.Verdicts); v.Status != 1 {
		t.Errorf("verdict %+v, want commit", v)
	}
}

func TestTooManyChecks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	b.dial(func(o *client.Options) {
		o.CheckListener = func(context.Context, client.Check) client.Verdict { <-release; return client.Commit }
	})
	const most = 32
	for range most + 1 {
		if _, err := b.broker.Check("g", stored("trade", "pay", "")); err != nil {
			t.Fatal(err)
		}
	}
	if v := mustNext(t, &b.broker.Verdicts); v.Status != 0 || !strings.Contains(v.Feedback, "busy") {
		t.Errorf("answered %+v, want busy", v)
	}
	close(release)
	for range most {
		if v := mustNext(t, &b.broker.Verdicts); v.Status != 1 {
			t.Errorf("answered %+v, want commit", v)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	b.registry.SetBrokers("stock", b.broker.Addr(), "127.0.0.1:1")
	c := b.dial(nil)
	id := client.NewID()
	if err := c.Decide(t.Context(), "trade", id, client.Rollback, "by hand"); err != nil {
		t.Fatal(err)
	}
	for _, broker := range []*clienttest.Broker{b.broker, other} {
		if v := mustNext(t, &broker.Verdicts); v.ID != id || v.Status != 2 || v.Feedback != "by hand" || v.Topic != "trade" {
			t.Errorf("verdict %+v", v)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := c.Decide(ctx, "stock", id, client.Commit, "")
	if !errors.Is(err, client.Indeterminate) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v, want Indeterminate and the broker that is away", err)
	}
	if v := mustNext(t, &b.broker.Verdicts); v.Status != 1 || v.Topic != "stock" {
		t.Errorf("verdict %+v", v)
	}
	for _, bad := range []error{
		c.Decide(t.Context(), "trade", id, client.Unknown, ""),
		c.Decide(t.Context(), "trade", "17", client.Commit, ""),
	} {
		if !errors.Is(bad, client.Invalid) {
			t.Errorf("got %v, want Invalid", bad)
		}
	}
}

// TestReceipts commits and rolls back at a broker that gives receipts.
func TestReceipts(t *testing.T) {
	t.Parallel()
	decidedAt := time.UnixMilli(1_700_000_000_123)
	for name, c := range map[string]struct {
		answers []clienttest.Receipt // to one verdict after the other
		want    client.Code
		receipt client.Receipt
		text    string // of the error
	}{
		"committed": {
			answers: []clienttest.Receipt{{Outcome: 1, DecidedBy: "10.0.0.1:9", DecidedMs: decidedAt.UnixMilli()}},
			receipt: client.Receipt{Outcome: client.Commit, DecidedBy: "10.0.0.1:9", DecidedAt: decidedAt},
		},
		"busy first": {
			answers: []clienttest.Receipt{{Code: client.Busy}, {Code: client.Unavailable}, {Outcome: 1}},
			receipt: client.Receipt{Outcome: client.Commit},
		},
		"conflict": {
			answers: []clienttest.Receipt{{Code: client.TxConflict, Outcome: 2, DecidedBy: "operator ann", DecidedMs: decidedAt.UnixMilli()}},
			want:    client.TxConflict, text: "rollback by operator ann at 2023-11-14T22:13:20.123Z",
			receipt: client.Receipt{Outcome: client.Rollback, DecidedBy: "operator ann", DecidedAt: decidedAt},
		},
		"unknown": {answers: []clienttest.Receipt{{Code: client.TxUnknown}}, want: client.TxUnknown, text: "knows no such transaction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			answers := make(chan clienttest.Receipt, len(c.answers))
			for _, a := range c.answers {
				answers <- a
			}
			b.broker.OnVerdict(func(clienttest.Verdict) *clienttest.Receipt { r := <-answers; return &r })
			tx, err := b.dial(answering(client.Unknown)).Prepare(t.Context(), message())
			if err != nil {
				t.Fatal(err)
			}
			if tx.Receipt() != nil {
				t.Error("a receipt before the verdict")
			}
			err = tx.Commit(t.Context())
			if client.CodeOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("commit: %v, want code %v with %q", err, c.want, c.text)
			}
			got := client.Receipt{}
			if r := tx.Receipt(); r != nil {
				got = *r
			}
			if got != c.receipt {
				t.Errorf("receipt %+v, want %+v", got, c.receipt)
			}
			id := ""
			for range c.answers { // the same id each time
				v := mustNext(t, &b.broker.Verdicts)
				if id == "" {
					id = v.ID
				}
				if v.ID != id || v.Status != 1 {
					t.Errorf("verdict %+v, want commits of %s", v, id)
				}
			}
		})
	}
}

// TestReceiptLost commits though the connection breaks before the receipt comes.
func TestReceiptLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := true
	b.broker.OnVerdict(func(clienttest.Verdict) *clienttest.Receipt {
		if first {
			first = false
			b.broker.Drop()
			return nil
		}
		return &clienttest.Receipt{Outcome: 1}
	})
	c := b.dial(answering(client.Unknown))
	tx, err := c.Prepare(t.Context(), message())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil || tx.Receipt() == nil {
		t.Errorf("commit: %v, receipt %v", err, tx.Receipt())
	}
	b.broker.OnVerdict(func(clienttest.Verdict) *clienttest.Receipt { return nil })
	tx, err = c.Prepare(t.Context(), message())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tx.Commit(ctx); !errors.Is(err, client.Indeterminate) {
		t.Errorf("without a receipt: %v, want Indeterminate", err)
	}
}

// TestDecideReceipts asks all brokers: the one that knows the transaction decides, and none is an error.
func TestDecideReceipts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	unknown := func(clienttest.Verdict) *clienttest.Receipt { return &clienttest.Receipt{Code: client.TxUnknown} }
	var answer clienttest.Receipt
	b.broker.OnVerdict(unknown)
	other.OnVerdict(func(clienttest.Verdict) *clienttest.Receipt { return &answer })
	c := b.dial(nil)
	for _, a := range []clienttest.Receipt{{Outcome: 2}, {Code: client.TxConflict, Outcome: 1}, {Code: client.TxUnknown}} {
		answer = a
		if err := c.Decide(t.Context(), "trade", client.NewID(), client.Rollback, ""); client.CodeOf(err) != a.Code {
			t.Errorf("one broker says %v: %v", a.Code, err)
		}
	}
}
