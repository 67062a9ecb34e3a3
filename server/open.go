package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/file"
	"github.com/kiteq/kiteq/registry/remember"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/mock"
	"github.com/kiteq/kiteq/store/mysql"
)

// openStore opens the journal that the URL names. The keeper is nil unless other brokers may take it over.
func openStore(raw, address string, log *slog.Logger) (store.Journal, *keeper, error) {
	url, err := conf.ParseStore(raw)
	if err != nil {
		return nil, nil, err
	}
	for _, note := range url.Notes {
		log.Warn(note)
	}
	switch {
	case url.Memory != nil:
		journal, err := memory.New(*url.Memory)
		return journal, nil, err
	case url.Mock:
		log.Warn("the mock store keeps no message: what is published is never delivered")
		return mock.New(), nil, nil
	case url.MySQL != nil:
		return openMySQL(*url.MySQL, address, log)
	}
	journal, err := mmap.Open(*url.MMap, log)
	if err != nil {
		return nil, nil, fmt.Errorf("store %s: %w", raw, err)
	}
	return journal, nil, nil
}

// openMySQL opens the journal of the broker in a database that others may share.
func openMySQL(o mysql.Options, address string, log *slog.Logger) (store.Journal, *keeper, error) {
	if o.Broker == "" {
		_, port, err := net.SplitHostPort(address)
		if err != nil || port == "0" {
			return nil, nil, kite.Errorf(kite.Invalid, "-bind with port 0: the broker has its journal under its name: give it one that stays, as -db mysql://…&broker=NAME")
		}
		o.Broker = address
	}
	database, err := mysql.Dial(o, log)
	if err != nil {
		return nil, nil, err
	}
	o = database.Options()
	return openShared(database.Shared(), o.Broker, o.TakeoverAfter, log)
}

// openShared opens the broker's journal, also when another one has taken it over meanwhile, or begins it. The
// keeper owns the store then.
func openShared(shared store.Shared, id string, after time.Duration, log *slog.Logger) (store.Journal, *keeper, error) {
	journal, err := own(shared, id)
	if err != nil {
		return nil, nil, errors.Join(err, shared.Close())
	}
	return journal, &keeper{id: id, after: after, store: shared, home: journal.Held(), log: log.With("component", "takeover")}, nil
}

func own(shared store.Shared, id string) (store.SharedJournal, error) {
	all, err := shared.Held("")
	if err != nil {
		return nil, err
	}
	for _, h := range slices.Backward(all) {
		if h.Broker == id {
			return shared.Claim(h, id)
		}
	}
	return shared.Create(id)
}

// keep gives the keeper what it needs to see other brokers and to serve their journals.
func (s *Server) keep() error {
	switch k := s.keeper; {
	case k == nil:
	case s.peers == nil:
		return kite.Errorf(kite.Invalid, "-zkhost %s: brokers that share a store see each other in ZooKeeper: name it with -zkhost", s.config.ZKHost)
	default:
		k.peers, k.ready, k.host = s.peers, s.registry.Ready, s.host
	}
	return nil
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
	s.registry, s.peers, s.follow = session, session, session.Run
	if url.ZK != nil && s.config.BindingsFile != "" {
		s.registry = remember.New(session, s.config.BindingsFile, rememberAfter, s.log)
	}
	return nil
}

// host serves the journal of a broker that is gone, until ctx ends: as this broker, on ports of its own.
func (s *Server) host(ctx context.Context, journal store.SharedJournal) error {
	c := s.config
	c.Topics, c.BindingsFile, c.Notes = *s.topics.Load(), "", nil
	if s.embedded != nil {
		c.ZKHost = s.embedded.Addr()
	}
	bind, _, err := net.SplitHostPort(c.Bind)
	if err == nil {
		c.Bind, c.AdminPort, err = freePorts(bind)
	}
	if err != nil {
		return errors.Join(err, journal.Close())
	}
	c.Network.Addr, c.Rules = c.Bind, s.rules()
	address, _, err := net.SplitHostPort(s.advertised)
	_, port, _ := net.SplitHostPort(c.Bind)
	if c.TLS.Listen != "" {
		host, _, _ := net.SplitHostPort(c.TLS.Listen)
		c.TLS.Listen = net.JoinHostPort(host, "0")
	}
	if c.TLS.Only {
		port = "0" // what the system chooses for TLS
	}
	if err != nil {
		return errors.Join(err, journal.Close())
	}
	log := s.log.With("journal", journal.Held().Journal)
	guest, err := newBroker(c, Control{Reload: func() (conf.Config, error) {
		c := c
		c.Topics, c.Rules = *s.topics.Load(), s.rules()
		return c, nil
	}}, net.JoinHostPort(address, port), journal, nil, log)
	if err != nil {
		return err
	}
	s.guests.Store(guest, journal.Held())
	defer s.guests.Delete(guest)
	return guest.Run(ctx)
}

// freePorts returns an address for clients on which nobody listens now, and the port one above it, where
// operators look for the broker of that address.
func freePorts(host string) (bind string, admin int, err error) {
	for range 20 {
		var clients, operators net.Listener
		if clients, err = net.Listen("tcp4", net.JoinHostPort(host, "0")); err != nil {
			return "", 0, err
		}
		admin = clients.Addr().(*net.TCPAddr).Port + 1
		operators, err = net.Listen("tcp4", net.JoinHostPort(host, strconv.Itoa(admin)))
		_ = clients.Close()
		if err == nil {
			return net.JoinHostPort(host, strconv.Itoa(admin-1)), admin, operators.Close()
		}
	}
	return "", 0, err
}

// advertised is the numeric address that clients dial: old Go clients compare it with the peer's address
// (interop contract §8.5).
func advertised(c conf.Config) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	listen := c.Bind
	if c.TLS.Only {
		listen = c.TLS.Listen
	}
	host, port, err := net.SplitHostPort(listen)
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
