package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// terminal is the screen that a live view is drawn on, and the keyboard that it hears. Its bytes are those that every terminal since the
// VT100 knows.
type terminal struct {
	in    *os.File
	out   io.Writer
	fd    int // of the screen
	saved unix.Termios
	keys  chan byte
}

// openTerminal takes the terminal over, until close. It gives nil where there is none, or one that cannot be drawn on.
func openTerminal(in *os.File, out io.Writer) (*terminal, error) {
	screen, ok := out.(*os.File)
	if term := os.Getenv("TERM"); !ok || in == nil || term == "" || term == "dumb" || !isTerminal(in) || !isTerminal(screen) {
		return nil, nil
	}
	t := &terminal{in: in, out: out, fd: int(screen.Fd()), keys: make(chan byte)}
	saved, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the terminal's settings: %w", err)
	}
	t.saved = *saved
	raw := *saved
	// Keys come at once and are not shown; ^C still ends the program.
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(in.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set the terminal up: %w", err)
	}
	// A screen of its own, without a cursor.
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	go t.listen()
	return t, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// listen hands on keys until the program ends: a read from a terminal cannot be called off.
func (t *terminal) listen() {
	defer close(t.keys)
	var b [1]byte
	for {
		if n, err := t.in.Read(b[:]); n != 1 || err != nil {
			return
		}
		t.keys <- b[0]
	}
}

// close gives the terminal back as it was.
func (t *terminal) close() {
	fmt.Fprint(t.out, "\x1b[?25h\x1b[?1049l")
	_ = unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &t.saved)
}

// draw replaces what is on the screen. Lines that do not fit are cut, and so are those below the last line, which is always shown.
func (t *terminal) draw(lines []string, last string) error {
	rows, columns := 24, 80
	if size, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ); err == nil && size.Row > 0 && size.Col > 0 {
		rows, columns = int(size.Row), int(size.Col)
	}
	if len(lines) > rows-1 {
		lines = lines[:max(rows-1, 0)]
	}
	var s strings.Builder
	s.WriteString("\x1b[H")
	for _, line := range lines {
		s.WriteString(cut(line, columns) + "\x1b[K\n")
	}
	s.WriteString("\x1b[J\x1b[7m" + cut(last, columns) + "\x1b[0m")
	_, err := io.WriteString(t.out, s.String())
	return err
}

func cut(line string, columns int) string {
	if runes := []rune(line); len(runes) > columns {
		return string(runes[:columns])
	}
	return line
}
