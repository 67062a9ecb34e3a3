package server

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/file"
	"github.com/kiteq/kiteq/registry/remember"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/mock"
)

// openStore opens the journal that the URL names.
func openStore(raw string, log *slog.Logger) (store.Journal, error) {
	url, err := conf.ParseStore(raw)
	if err != nil {
		return nil, err
	}
	for _, note := range url.Notes {
		log.Warn(note)
	}
	switch {
	case url.Memory != nil:
		return memory.New(*url.Memory)
	case url.Mock:
		log.Warn("the mock store keeps no message: what is published is never delivered")
		return mock.New(), nil
	}
	journal, err := mmap.Open(*url.MMap, log)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", raw, err)
	}
	return journal, nil
}

// rememberAfter is how long a starting broker waits for ZooKeeper before it takes the bindings of its
// last run.
const rememberAfter = 5 * time.Second

// openRegistry connects to the registry; the embedded one is reached as any other.
func (s *Server) openRegistry() error {
	url, err := conf.ParseRegistry(s.config.ZKHost)
	if err != nil {
		return err
	}
	if url.File != nil {
		registry, err := file.Open(*url.File, s.log)
		if err != nil {
			return err
		}
		s.registry, s.follow = registry, registry.Run
		return nil
	}
	options := zk.Options{}
	if url.ZK != nil {
		options = *url.ZK
	} else {
		if s.embedded, err = embedded.Listen(*url.Embedded, s.log); err != nil {
			return err
		}
		options.Hosts = []string{s.embedded.Addr()}
	}
	session, err := zk.Connect(options, s.log)
	if err != nil {
		return err
	}
	s.registry, s.follow = session, session.Run
	if url.ZK != nil && s.config.BindingsFile != "" {
		s.registry = remember.New(session, s.config.BindingsFile, rememberAfter, s.log)
	}
	return nil
}

// advertised is the numeric address that clients dial: old Go clients compare it with the peer's address
// (interop contract §8.5).
func advertised(c conf.Config) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	host, port, err := net.SplitHostPort(c.Bind)
	if err != nil {
		return "", err
	}
	if number, err := net.LookupPort("tcp4", port); err == nil {
		port = strconv.Itoa(number)
	}
	switch {
	case host == "localhost":
		host = "127.0.0.1"
	case host == "" || net.ParseIP(host).IsUnspecified():
		host = hostAddr()
	}
	return net.JoinHostPort(host, port), nil
}

// hostAddr returns this host's first IPv4 address that others can reach, or loopback.
func hostAddr() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// settleAddr replaces port 0 by the one that the system chose.
func (s *Server) settleAddr() {
	if host, port, err := net.SplitHostPort(s.advertised); err == nil && port == "0" {
		if _, actual, err := net.SplitHostPort(s.transport.Addr()); err == nil {
			s.advertised = net.JoinHostPort(host, actual)
		}
	}
}

// adminPort is the port of the health checks, or -1.
func adminPort(c conf.Config) int {
	if c.AdminPort != 0 {
		return c.AdminPort
	}
	_, port, err := net.SplitHostPort(c.Bind)
	if err != nil {
		return -1
	}
	number, err := net.LookupPort("tcp4", port)
	switch {
	case err != nil || number == 65535:
		return -1
	case number == 0:
		return 0
	}
	return number + 1
}
