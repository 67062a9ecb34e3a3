package admin

import (
	"net/http"

	"github.com/kiteq/kiteq/internal/operate"
)

// registerLog adds the path by which the log's level is seen and changed.
func registerLog(mux *http.ServeMux, broker Broker) {
	show := func(*http.Request) (any, error) { return operate.Log{Level: broker.LogLevel()}, nil }
	change := func(r *http.Request) (any, error) {
		var wanted operate.Log
		if err := body(r, &wanted); err != nil {
			return nil, err
		}
		note, err := Signed(r, operate.Note{By: wanted.By}, false)
		if err != nil {
			return nil, err
		}
		if err := broker.SetLogLevel(wanted.Level, note.By); err != nil {
			return nil, err
		}
		return show(r)
	}
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, r *http.Request) { serve(w, r, show) })
	mux.HandleFunc("PUT /log", func(w http.ResponseWriter, r *http.Request) { serve(w, r, change) })
	mux.HandleFunc("POST /log", func(w http.ResponseWriter, r *http.Request) { serve(w, r, change) })
}
