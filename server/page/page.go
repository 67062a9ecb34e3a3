package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/server/admin"
)

// Root is where the page lies on the admin port.
const Root = "/ui"

// patience is how long a request may wait for the broker.
const patience = 10 * time.Second

// Broker is what the page shows and orders, by the operators' interface.
type Broker interface {
	// Ready returns why the broker does not serve, or nil; Counters what it has counted and holds.
	Ready() error
	Counters(ctx context.Context) (admin.Counters, error)
	admin.Teller
	admin.Transactor
	admin.Timekeeper
	admin.Director
	admin.Undertaker
	// Brokers returns this broker first and then those that serve its topics, too, by what the registry says.
	Brokers(ctx context.Context) (operate.Brokers, error)
}

// Page is the web page of a broker. It is an http.Handler for every path below Root.
type Page struct {
	broker  Broker
	history *history
	census  *census
	sheets  sheets
	streams chan struct{} // has room for as many as may be open
	log     *slog.Logger
	handler http.Handler
}

//go:embed assets
var assets embed.FS

// New makes the page. Its plots are empty until Run.
func New(broker Broker, log *slog.Logger) *Page {
	p := &Page{
		broker: broker, history: newHistory(), census: &census{broker: broker},
		sheets: newSheets(), streams: make(chan struct{}, maxStreams), log: log.With("component", "page"),
	}
	p.handler = protected(p.routes())
	return p
}

// Run samples the broker until ctx ends.
func (p *Page) Run(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, patience)
		counters, err := p.broker.Counters(asked)
		cancel()
		if err != nil {
			p.log.Debug("counters not read", "err", err)
		} else {
			p.history.add(time.Now(), counters)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

func (p *Page) routes() *http.ServeMux {
	mux := http.NewServeMux()
	show := func(path, name string, work func(*http.Request) (sheet, error)) {
		mux.HandleFunc("GET "+Root+path, func(w http.ResponseWriter, r *http.Request) { p.show(w, r, name, work) })
	}
	show("/{$}", "overview", p.overview)
	show("/topics", "topics", p.topics)
	show("/topics/{topic}", "topic", p.topic)
	show("/groups", "groups", p.groups)
	show("/groups/{topic}/{group}", "group", p.group)
	show("/transactions", "transactions", p.transactions)
	show("/delayed", "delayed", p.delayed)
	show("/deadletters", "graves", p.graves)
	show("/deadletters/{topic}/{group}", "letters", p.letters)
	show("/deadletters/{topic}/{group}/{n}", "letter", p.letter)
	show("/messages/{id}", "message", p.message)
	mux.HandleFunc("GET "+Root+"/messages", find)
	mux.HandleFunc("POST "+Root+"/transactions/{id}/{order}", p.order(p.decide))
	mux.HandleFunc("POST "+Root+"/delayed/{id}/{order}", p.order(p.cancel))
	mux.HandleFunc("POST "+Root+"/groups/{topic}/{group}/{order}", p.order(p.direct))
	mux.HandleFunc("POST "+Root+"/deadletters/{topic}/{group}/{n}/{order}", p.order(p.dispose))
	mux.HandleFunc(Root+"/", func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, r, http.StatusNotFound, "There is no page here.")
	})
	serveAssets(mux)
	return mux
}

// policy lets the page load and send nothing but to this broker, and nobody show it inside a page of his own.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// protected adds the headers that hold a browser to the page's own host, and refuses orders that another page sends.
func protected(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // none at all would have browsers send orders with the origin null
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// serveAssets serves each embedded file; a browser asks again whether its copy is the newest.
func serveAssets(mux *http.ServeMux) {
	err := fs.WalkDir(assets, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := assets.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:8]) + `"`
		mux.HandleFunc("GET "+Root+"/"+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("ETag", tag)
			http.ServeContent(w, r, path[strings.LastIndex(path, "/")+1:], time.Time{}, bytes.NewReader(body))
		})
		return nil
	})
	if err != nil {
		panic("page: the embedded files cannot be read: " + err.Error())
	}
}
