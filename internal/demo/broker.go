package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const topic = "trade"

// broker is the real binary, with its embedded registry, on ports of its own.
type broker struct {
	addr   string
	zkhost string
	admin  string
	log    string // a file
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the process, once exited
}

// config makes the broker ask sooner than one would in earnest: a check should come later than
// the longest local transaction.
const config = `
[transaction]
first_check = "2s"
`

// stopPatience is how long the broker may take to stop: more than its drain timeout.
const stopPatience = 20 * time.Second

func startBroker(path, dir string) (*broker, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	b := &broker{log: filepath.Join(dir, "broker.log"), exited: make(chan struct{})}
	for _, addr := range []*string{&b.addr, &b.zkhost, &b.admin} {
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	_, adminPort, err := net.SplitHostPort(b.admin)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kiteq.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(b.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	b.cmd = exec.Command(path,
		"-bind="+b.addr, "-pport="+adminPort, "-topics="+topic, "-configPath="+file,
		"-zkhost=embedded://"+b.zkhost+"?data="+filepath.Join(dir, "registry"),
		"-db=mmap://"+filepath.Join(dir, "journal")+"?segment=16MiB")
	b.cmd.Stdout, b.cmd.Stderr = log, log
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the broker: %w: build it with ./build.sh, or name it with -kiteq", err)
	}
	go func() {
		b.err = b.cmd.Wait()
		close(b.exited)
	}()
	return b, nil
}

// stop asks the broker to end and waits for it.
func (b *broker) stop() error {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	select {
	case <-b.exited:
	case <-late.C:
		_ = b.cmd.Process.Kill()
		<-b.exited
		return errors.New("the broker did not stop and was killed")
	}
	if b.err != nil {
		return fmt.Errorf("the broker ended: %w", b.err)
	}
	return nil
}

// logTail returns the last lines of the broker's log.
func (b *broker) logTail() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
