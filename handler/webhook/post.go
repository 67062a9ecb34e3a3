package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// question is the body of a request.
type question struct {
	MessageID   string            `json:"message_id"` // 32 lower-case hexadecimal digits
	Topic       string            `json:"topic"`
	MessageType string            `json:"message_type"`
	Group       string            `json:"group"`       // the publisher's
	PreparedAt  string            `json:"prepared_at"` // RFC 3339, UTC, with ms
	Checks      int               `json:"checks"`      // sent before this one
	Properties  map[string]string `json:"properties"`
}

// preparedAt is RFC 3339 with milliseconds, which is what the journal has.
const preparedAt = "2006-01-02T15:04:05.000Z07:00"

// question reads the message and asks about it. Its body is not shown.
func (h *Hooks) question(q inquiry) ([]byte, error) {
	var body []byte
	var bad error
	err := h.loader.Load(q.position, func(r *kite.Record) {
		var m protocol.MessageView
		if bad = m.Decode(r.Body); bad != nil {
			return
		}
		asked := question{
			MessageID: q.id.String(), Topic: r.Topic, MessageType: string(r.Type), Group: string(r.Group),
			PreparedAt: time.UnixMilli(r.TimeMs).UTC().Format(preparedAt), Checks: q.checks, Properties: map[string]string{},
		}
		for key, value := range m.Header.Properties {
			asked.Properties[string(key)] = string(value)
		}
		body, bad = json.Marshal(asked)
	})
	return body, errors.Join(err, bad)
}

// answer is the body of the answer.
type answer struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

const (
	outcomeCommit   = "commit"
	outcomeRollback = "rollback"
	outcomeUnknown  = "unknown"
)

// badAnswer is one that came and cannot be used.
type badAnswer struct {
	short string // for the message's story, which many messages may have
	more  string
	busy  bool // the hook says that it is asked too much
}

func (b *badAnswer) Error() string { return b.short + b.more }

// Bounds of an answer, bytes.
const (
	maxAnswer  = 64 << 10
	maxHeaders = 64 << 10
	maxReason  = 255 // the rest is cut off: it is kept with the message
)

// newClient returns a client that goes where the URL says and nowhere else: it follows no redirect and asks no
// proxy of the environment.
func newClient(parallel int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: parallel, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: maxHeaders, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends the question and reads the answer. sent is called, more than once perhaps, when the question is out.
// Errors show nothing of the URL but its host.
func post(ctx context.Context, client *http.Client, to string, question []byte, sent func()) (a answer, err error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			sent()
		}
	}}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, to, bytes.NewReader(question))
	if err != nil {
		return a, bare(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "kiteq")
	response, err := client.Do(request)
	if err != nil {
		return a, bare(err)
	}
	defer response.Body.Close()
	sent() // it may be here before its question is noted as written
	if response.StatusCode != http.StatusOK {
		return a, refused(response.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return a, bare(err)
	case len(raw) > maxAnswer:
		return a, &badAnswer{short: "answer too long", more: fmt.Sprintf(": at most %d bytes are read", maxAnswer)}
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, &badAnswer{short: "answer not understood", more: ": " + err.Error()}
	}
	switch a.Outcome {
	case outcomeCommit, outcomeRollback, outcomeUnknown:
	default:
		return a, &badAnswer{short: "answer not understood", more: fmt.Sprintf(": outcome %.40q: use commit, rollback or unknown", a.Outcome)}
	}
	a.Reason = strings.ToValidUTF8(a.Reason[:min(len(a.Reason), maxReason)], "")
	return a, nil
}

func refused(status int) error {
	bad := &badAnswer{short: fmt.Sprintf("status %d", status)}
	switch {
	case status >= 300 && status < 400:
		bad.more = ": redirects are not followed"
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		bad.busy = true
	}
	return bad
}

// bare takes the URL off the error.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}
