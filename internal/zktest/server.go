package zktest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RequireEnv is the environment variable that, when it is "1", makes Start fail where it would skip.
const RequireEnv = "KITEQ_TEST_REQUIRE"

// The session timeouts that the servers of this package grant.
const (
	MinSession = 400 * time.Millisecond
	MaxSession = 4 * time.Second
)

// startPatience is how long a JVM may take until it serves; it is one second on an idle machine.
const startPatience = 30 * time.Second

// jars says where Debian's packages put them.
func jars() []string {
	return []string{
		"/usr/share/java/zookeeper.jar",
		"/usr/share/java/slf4j-log4j12.jar",
		"/usr/share/java/log4j-1.2.jar",
	}
}

// Server is a standalone ZooKeeper in a process of its own, on loopback. Its methods fail the test
// when they cannot do what they say.
type Server struct {
	t    testing.TB
	dir  string
	addr string

	process *exec.Cmd
	keeper  io.WriteCloser // closing it kills the process
}

// Start runs a ZooKeeper until the test ends. Without java or ZooKeeper's jars the test is skipped,
// unless RequireEnv asks for failure.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	for _, need := range append([]string{"java"}, jars()...) {
		if err := installed(need); err != nil {
			text := fmt.Sprintf("no ZooKeeper to test against: %v: install the packages zookeeper and default-jre-headless", err)
			if os.Getenv(RequireEnv) == "1" {
				t.Fatal(text)
			}
			t.Skip(text)
		}
	}
	t.Cleanup(func() {
		if s.process != nil {
			s.Stop()
		}
	})
	// The port is free when it is chosen and may be taken when the JVM gets to it.
	var err error
	for range 2 {
		s.addr = freeAddr(t)
		if err = s.start(); err == nil {
			return s
		}
		t.Logf("start again: %v", err)
	}
	t.Fatal(err)
	return nil
}

// Addr returns the server's "ip:port". It stays the same for the server's life.
func (s *Server) Addr() string { return s.addr }

// Stop kills the server; its data stay.
func (s *Server) Stop() {
	s.t.Helper()
	_ = s.keeper.Close()
	_ = s.process.Wait() // killed, so an error is what to expect
	s.process = nil
}

// Restart starts the server again, after Stop or in place of the running one, with the data it had.
func (s *Server) Restart() {
	s.t.Helper()
	if s.process != nil {
		s.Stop()
	}
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Wipe is a Restart that loses the data.
func (s *Server) Wipe() {
	s.t.Helper()
	if s.process != nil {
		s.Stop()
	}
	if err := os.RemoveAll(s.dataDir()); err != nil {
		s.t.Fatal(err)
	}
	s.Restart()
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

func (s *Server) start() error {
	log, err := s.configure()
	if err != nil {
		return err
	}
	defer log.Close()
	// The shell kills the JVM when its input ends: on Stop, and also when the test process dies.
	s.process = exec.Command("sh", "-c", `"$@" </dev/null & read nothing; kill -9 $!; wait $!`, "zookeeper",
		"java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false",
		"-cp", strings.Join(append([]string{s.dir}, jars()...), ":"),
		"org.apache.zookeeper.server.ZooKeeperServerMain", filepath.Join(s.dir, "zoo.cfg"))
	s.process.Stdout, s.process.Stderr = log, log
	if s.keeper, err = s.process.StdinPipe(); err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		s.process = nil
		return fmt.Errorf("start java: %w", err)
	}
	if err := waitUntilServing(s.addr); err != nil {
		s.Stop()
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w; the server's log ends with:\n%s", err, text[max(0, len(text)-4096):])
	}
	return nil
}

// configure writes the server's files and opens its log.
func (s *Server) configure() (*os.File, error) {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, err
	}
	config := strings.Join([]string{
		"tickTime=200",
		fmt.Sprintf("minSessionTimeout=%d", MinSession.Milliseconds()),
		fmt.Sprintf("maxSessionTimeout=%d", MaxSession.Milliseconds()),
		"dataDir=" + s.dataDir(),
		"clientPort=" + port,
		"clientPortAddress=" + host,
		"admin.enableServer=false",
		"maxClientCnxns=0",
		"forceSync=no",
		"extendedTypesEnabled=true",
		"4lw.commands.whitelist=ruok,srvr,mntr",
		"",
	}, "\n")
	logging := "log4j.rootLogger=INFO, out\n" +
		"log4j.appender.out=org.apache.log4j.ConsoleAppender\n" +
		"log4j.appender.out.layout=org.apache.log4j.PatternLayout\n" +
		"log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n\n"
	for name, text := range map[string]string{"zoo.cfg": config, "log4j.properties": logging} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.dataDir(), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(s.dir, "zookeeper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// waitUntilServing polls "srvr", which, unlike "ruok", answers only when requests are served.
func waitUntilServing(addr string) error {
	deadline := time.Now().Add(startPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for time.Now().Before(deadline) {
		if err = serving(addr); err == nil {
			return nil
		}
		<-tick.C
	}
	return fmt.Errorf("ZooKeeper at %s does not serve after %v: %w", addr, startPatience, err)
}

func serving(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(answer, []byte("Zookeeper version")) {
		return fmt.Errorf("srvr says %.80q", answer)
	}
	return nil
}

func installed(need string) error {
	if strings.HasPrefix(need, "/") {
		_, err := os.Stat(need)
		return err
	}
	_, err := exec.LookPath(need)
	return err
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
