package conf

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/file"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/mock"
	"github.com/kiteq/kiteq/store/mysql"
)

// StoreURL is a parsed -db: one of its fields is set.
type StoreURL struct {
	MMap   *mmap.Options
	Memory *memory.Options
	MySQL  *mysql.Options
	Mock   bool
	// Notes are parameters that mean nothing any more, for the log.
	Notes []string
}

// ParseStore reads a store's URL.
func ParseStore(raw string) (StoreURL, error) {
	scheme, _, _ := strings.Cut(raw, "://")
	switch scheme {
	case "mmap", "file":
		o, notes, err := mmap.ParseURL(raw)
		return StoreURL{MMap: &o, Notes: notes}, err
	case "memory":
		o, notes, err := memory.ParseURL(raw)
		return StoreURL{Memory: &o, Notes: notes}, err
	case "mock":
		return StoreURL{Mock: true}, mock.ParseURL(raw)
	case "rocksdb":
		return StoreURL{}, fmt.Errorf("%q: there is no rocksdb here: use mmap://dir in another directory, the old data is not read", raw)
	case "mysql":
		o, notes, err := mysql.ParseURL(raw)
		return StoreURL{MySQL: &o, Notes: notes}, err
	}
	return StoreURL{}, fmt.Errorf("%q: use mmap://dir, file://dir, mysql://host:port, memory:// or mock://", mysql.Redact(raw))
}

// RegistryURL is a parsed -zkhost: one of its fields is set.
type RegistryURL struct {
	File     *file.Options
	Embedded *embedded.Options
	ZK       *zk.Options
}

// embeddedDir is where the embedded registry keeps its nodes when the URL does not say.
const embeddedDir = "data/registry"

// ParseRegistry reads a registry's URL.
func ParseRegistry(raw string) (RegistryURL, error) {
	if raw == "embedded" {
		raw = "embedded://"
	}
	if strings.HasPrefix(raw, "file://") {
		o, err := file.ParseURL(raw)
		return RegistryURL{File: &o}, err
	}
	rest, ok := strings.CutPrefix(raw, "embedded://")
	if !ok {
		o, err := zk.ParseURL(raw)
		return RegistryURL{ZK: &o}, err
	}
	addr, query, _ := strings.Cut(rest, "?")
	o := embedded.Options{Addr: addr, Dir: embeddedDir}
	if addr != "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || net.ParseIP(host) == nil {
			return RegistryURL{}, fmt.Errorf("%q: write embedded://ip:port?data=dir, as in embedded://127.0.0.1:2181?data=data/registry", raw)
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return RegistryURL{}, fmt.Errorf("%q: %w", raw, err)
	}
	for key := range values {
		if key != "data" {
			return RegistryURL{}, fmt.Errorf("%q: parameter %q is not known, only data is", raw, key)
		}
		o.Dir = values.Get(key)
	}
	return RegistryURL{Embedded: &o}, nil
}
