package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Bounds of what operators may send and wait for.
const (
	maxBody  = 64 << 10 // bytes of a POST
	maxNote  = 1024     // bytes of by and of reason
	patience = 10 * time.Second
)

// desk answers the operators' requests.
type desk struct{ operator Operator }

// register adds the operators' paths. Topics and groups in a path are escaped as parts of it.
func (d *desk) register(mux *http.ServeMux) {
	handle := func(pattern string, work func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { serve(w, r, work) })
	}
	handle("GET /messages/{id}", d.story)
	handle("GET /topics/{topic}/messages", d.peek)
	handle("GET /broker", d.broker)
	handle("POST /broker/{order}", d.orderBroker)
	handle("GET /transactions", d.transactions)
	handle("GET /transactions/{id}", d.transaction)
	handle("GET /delayed", d.delayed)
	handle("POST /delayed/{id}/{order}", d.cancel)
	handle("GET /groups", d.groups)
	handle("GET /deadletters", d.letters)
	handle("GET /deadletters/{topic}/{group}/{n}", d.letter)
	handle("POST /transactions/{id}/{order}", d.decide)
	handle("POST /groups/{topic}/{group}/{order}", d.direct)
	handle("POST /deadletters/{topic}/{group}/{n}/{order}", d.dispose)
	mux.HandleFunc("GET /deadletters/export", d.export)
}

// serve does the work of one request and writes its answer.
func serve(w http.ResponseWriter, r *http.Request, work func(r *http.Request) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if r.Method != http.MethodGet {
		if foreign(r) {
			reply(w, http.StatusForbidden, operate.Error{Error: "the page that sends this is not of this broker: origin " + r.Header.Get("Origin")})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	v, err := work(r.WithContext(ctx))
	if err != nil {
		reply(w, StatusOf(err), operate.Error{Error: strings.ReplaceAll(err.Error(), "\n", "; ")})
		return
	}
	reply(w, http.StatusOK, v)
}

// foreign tells whether a browser sends the request for a page of another host: whoever lures an operator
// there must not give orders by it. Browsers name the origin of every such POST, other clients of none.
func foreign(r *http.Request) bool {
	text := r.Header.Get("Origin")
	if text == "" {
		return false
	}
	origin, err := url.Parse(text)
	return err != nil || origin.Host != r.Host
}

// StatusOf translates the code of an error into that of an answer.
func StatusOf(err error) int {
	switch kite.CodeOf(err) {
	case kite.Invalid, kite.TooLarge:
		return http.StatusBadRequest
	case kite.NotServed, kite.TxUnknown:
		return http.StatusNotFound
	case kite.TxConflict:
		return http.StatusConflict
	case kite.Busy:
		return http.StatusTooManyRequests
	case kite.Unavailable, kite.Indeterminate:
		return http.StatusServiceUnavailable
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("admin: an answer that is not JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is not our concern
}

// filter reads the query. What it does not know it refuses: a misspelt filter would show too much.
func filter(r *http.Request, allowed ...string) (operate.Filter, error) {
	f := operate.Filter{Limit: operate.DefaultPage}
	for key, values := range r.URL.Query() {
		value := values[0]
		known := false
		for _, name := range allowed {
			known = known || name == key
		}
		if !known {
			return f, kite.Errorf(kite.Invalid, "parameter %.64q: give %s", key, strings.Join(allowed, ", "))
		}
		switch key {
		case "topic":
			f.Topic = value
		case "group":
			f.Group = value
		case "after":
			f.After = value
		case "state":
			if f.State = value; value != operate.Open && value != operate.Parked && value != "" {
				return f, kite.Errorf(kite.Invalid, "state %.64q: give open or parked", value)
			}
		case "limit":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > operate.MaxPage {
				return f, kite.Errorf(kite.Invalid, "limit %.64q: give 1 to %d", value, operate.MaxPage)
			}
			f.Limit = n
		}
	}
	return f, nil
}

func messageID(r *http.Request) (kite.MessageID, error) {
	id, ok := kite.ParseMessageID(r.PathValue("id"))
	if !ok {
		return id, kite.Errorf(kite.Invalid, "message id %.64q: give 32 hexadecimal digits", r.PathValue("id"))
	}
	return id, nil
}

// topicAndGroup reads and checks both from the path.
func topicAndGroup(r *http.Request) (topic, group string, err error) {
	topic, group = r.PathValue("topic"), r.PathValue("group")
	return topic, group, errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group))
}

// body decodes a POST's JSON into v. An absent one leaves v as it is.
func body(r *http.Request, v any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return kite.Errorf(kite.TooLarge, "body: at most %d bytes are read: %w", maxBody, err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return kite.Errorf(kite.Invalid, "body: %w", err)
	}
	return nil
}

// Signed makes what is journaled of a note: who gives no name is known by the HTTP user or the address. Where the
// port asks who comes, that name stands before any other.
func Signed(r *http.Request, n operate.Note, reasonRequired bool) (kite.Note, error) {
	user, _, _ := r.BasicAuth()
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	name := cmp.Or(strings.TrimSpace(n.By), user, host)
	if known := operatorOf(r); known != "" && known != name {
		name = known + " as " + name
	}
	reason := strings.TrimSpace(n.Reason)
	switch {
	case reasonRequired && reason == "":
		return kite.Note{}, kite.Errorf(kite.Invalid, `reason: it is missing: give {"by": "...", "reason": "..."}`)
	case len(name) > maxNote || len(reason) > maxNote:
		return kite.Note{}, kite.Errorf(kite.Invalid, "by and reason: at most %d bytes each are allowed", maxNote)
	case strings.ContainsRune(name, 0):
		return kite.Note{}, kite.Errorf(kite.Invalid, "by: a zero byte is not allowed")
	}
	return kite.Note{By: "operator " + name, Reason: reason}, nil
}
