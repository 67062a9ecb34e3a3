package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kiteq/kiteq/client"
)

// print writes one line: v as JSON, or the text.
func (g *globals) print(v any, text string) error {
	line := text
	if g.output == "json" {
		encoded, err := json.Marshal(v)
		if err != nil {
			return err
		}
		line = string(encoded)
	}
	g.line.Lock() // handlers and checks print, too
	defer g.line.Unlock()
	_, err := fmt.Fprintln(g.out, line)
	return err
}

// event is what happened to a message, as JSON.
type event struct {
	Event string `json:"event"` // published, prepared, committed, rolled back, left, check
	ID    string `json:"id"`
	Topic string `json:"topic,omitempty"`
	Type  string `json:"type,omitempty"`
	// Answer is what a check was answered.
	Answer string `json:"answer,omitempty"`
}

func (g *globals) tell(e event) error {
	text := e.Event + " " + e.ID
	if e.Answer != "" {
		text += " answered " + e.Answer
	}
	return g.print(e, text)
}

// tellCount says how many there were and how fast.
func (g *globals) tellCount(what string, n int64, took time.Duration) error {
	rate := float64(n) / max(took.Seconds(), 1e-9)
	return g.print(struct {
		Event   string  `json:"event"`
		Count   int64   `json:"count"`
		Seconds float64 `json:"seconds"`
	}{what, n, took.Seconds()}, fmt.Sprintf("%s %d messages in %s, %.0f a second", what, n, took.Round(time.Millisecond), rate))
}

// received is a delivery as JSON. Exactly one of Body and BodyBase64 is there.
type received struct {
	Topic      string            `json:"topic"`
	Type       string            `json:"type"`
	ID         string            `json:"id"`
	Group      string            `json:"group"`
	Body       *string           `json:"body,omitempty"`
	BodyBase64 []byte            `json:"bodyBase64,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Created    *time.Time        `json:"created,omitempty"`
	Expires    *time.Time        `json:"expires,omitempty"`
	Snappy     bool              `json:"snappy,omitempty"`
	Broker     string            `json:"broker"`
}

func (g *globals) printDelivery(d *client.Delivery) error {
	r := received{
		Topic: d.Topic, Type: d.Type, ID: d.ID, Group: d.Group, Properties: d.Properties,
		Created: moment(d.Created), Expires: moment(d.Expires), Snappy: d.Snappy, Broker: d.Broker,
	}
	if utf8.Valid(d.Body) {
		body := string(d.Body)
		r.Body = &body
	} else {
		r.BodyBase64 = d.Body
	}
	return g.print(r, strings.Join([]string{d.Topic, d.Type, d.ID, oneLine(d.Body)}, " "))
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// oneLine returns the body as it is when it prints on one line, quoted as in Go otherwise.
func oneLine(body []byte) string {
	text := string(body)
	if quoted := strconv.Quote(text); len(text) > 0 && (!utf8.ValidString(text) || strings.ContainsFunc(text, unprintable)) {
		return quoted
	}
	return text
}

func unprintable(r rune) bool { return !strconv.IsPrint(r) && r != '\t' }
