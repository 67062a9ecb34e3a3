package page

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"
)

// maxStreams bounds the pages that are shown live at a time. A stream is written every two seconds, 10 to 40 KB.
const maxStreams = 32

// stream sends the live part of a page, and its plots, at once and with every sample, until the browser leaves or
// takes nothing for a while. After an error the browser connects again, and is told then.
func (p *Page) stream(w http.ResponseWriter, r *http.Request, name string, work func(*http.Request) (sheet, error)) {
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		http.Error(w, "too many pages are shown live", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	for {
		_, changed := p.history.latest()
		message, err := p.event(r, name, work)
		if err != nil || control.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return
		}
		if _, err := w.Write(message); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// event is what a stream sends at a time: the HTML, then the lines of its plots as the event "plots".
func (p *Page) event(r *http.Request, name string, work func(*http.Request) (sheet, error)) ([]byte, error) {
	s, err := p.sheet(r, work)
	if err != nil {
		return nil, err
	}
	var html, all bytes.Buffer
	if err := p.sheets[name].ExecuteTemplate(&html, "live", s); err != nil {
		return nil, err
	}
	for line := range bytes.Lines(html.Bytes()) {
		all.WriteString("data: ")
		all.Write(bytes.TrimRight(line, "\r\n"))
		all.WriteByte('\n')
	}
	all.WriteByte('\n')
	if s.Plots != nil {
		drawn, err := json.Marshal(p.history.plot(*s.Plots))
		if err != nil {
			return nil, err
		}
		all.WriteString("event: plots\ndata: ")
		all.Write(drawn)
		all.WriteString("\n\n")
	}
	return all.Bytes(), nil
}
