/* SPDX-License-Identifier: BSD-2-Clause */
/* Log lines as their reader sees them: stderr is a pipe here. */
#include "testing.h"

#include "blkback/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int saved_stderr;
static int reader;
static char text[65536 * 2];

static int catch_stderr(void **state)
{
    int ends[2];

    (void)state;
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    reader = ends[0];
    (void)fcntl(reader, F_SETFL, O_NONBLOCK);
    (void)dup2(ends[1], STDERR_FILENO);
    (void)close(ends[1]);
    (void)unsetenv("JOURNAL_STREAM");
    log_init("test", LOG_LEVEL_INFO);
    return 0;
}

static int release_stderr(void **state)
{
    (void)state;
    (void)dup2(saved_stderr, STDERR_FILENO);
    (void)close(saved_stderr);
    (void)close(reader);
    return 0;
}

/* What was written since the last call. */
static const char *written(void)
{
    ssize_t got = read(reader, text, sizeof(text) - 1);

    text[got > 0 ? got : 0] = '\0';
    return text;
}

static void sleep_ms(long ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000};

    (void)nanosleep(&time, NULL);
}

static void line_names_program_and_level(void **state)
{
    (void)state;
    log_warning("disk %d", 7);
    assert_string_equal(written(), "test: warning: disk 7\n");
}

static void journal_gets_a_priority(void **state)
{
    (void)state;
    assert_int_equal(setenv("JOURNAL_STREAM", "1:2", 1), 0);
    log_init("test", LOG_LEVEL_INFO);
    log_error("disk %d", 7);
    assert_string_equal(written(), "<3>test: disk 7\n");
}

static void lines_below_the_threshold_are_not_written(void **state)
{
    (void)state;
    log_debug("no");
    assert_string_equal(written(), "");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("yes");
    assert_string_equal(written(), "test: debug: yes\n");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("no");
    assert_string_equal(written(), "");
}

static void one_event_is_one_line(void **state)
{
    (void)state;
    log_info("a\nb\tc\x1b[31m");
    assert_string_equal(written(), "test: info: a?b?c?[31m\n");
}

static void long_line_is_cut_and_ends_in_a_newline(void **state)
{
    char *word = calloc(1, 5001);

    (void)state;
    memset(word, 'x', 5000);
    log_info("%s", word);
    size_t length = strlen(written());
    assert_in_range(length, 512, 1024);
    assert_int_equal(text[length - 1], '\n');
    assert_null(memchr(text, '\n', length - 1));
    free(word);
}

static void errno_is_left_alone(void **state)
{
    (void)state;
    errno = ENOTTY;
    log_info("x");
    assert_int_equal(errno, ENOTTY);
}

static void burst_then_silence_then_how_many_were_dropped(void **state)
{
    struct log_limit limit = {.burst = 3, .interval_ms = 300};

    (void)state;
    for (int i = 0; i < 10; i++)
        log_limited(&limit, LOG_LEVEL_INFO, "n%d", i);
    assert_string_equal(written(), "test: info: n0\ntest: info: n1\ntest: info: n2\n");
    sleep_ms(350);
    log_limited(&limit, LOG_LEVEL_INFO, "again");
    assert_string_equal(written(), "test: info: again (7 similar lines suppressed)\n");
    log_limited(&limit, LOG_LEVEL_INFO, "no token");
    assert_string_equal(written(), "");
    sleep_ms(950);
    for (int i = 0; i < 10; i++)
        log_limited(&limit, LOG_LEVEL_INFO, "m%d", i);
    assert_string_equal(written(), "test: info: m0 (1 similar lines suppressed)\n"
                                   "test: info: m1\ntest: info: m2\n");
}

static unsigned lines_let_through(struct log_limit *limit, int tries)
{
    unsigned lines = 0;

    for (int i = 0; i < tries; i++)
        log_limited(limit, LOG_LEVEL_INFO, "x");
    for (const char *c = written(); *c; c++)
        lines += *c == '\n';
    return lines;
}

static void pace_is_in_lines_per_minute(void **state)
{
    static const struct {
        unsigned per_minute, at_once;
    } paces[] = {{1, 1}, {7, 7}, {19, 19}, {20, 20}, {60, 20}, {0, 20}};

    (void)state;
    for (unsigned i = 0; i < sizeof(paces) / sizeof(paces[0]); i++) {
        struct log_limit limit = {0};

        log_limit_pace(&limit, paces[i].per_minute);
        assert_int_equal(lines_let_through(&limit, 40), paces[i].at_once);
    }
    struct log_limit limit = {0};
    log_limit_pace(&limit, 200); /* one each 300 ms */
    (void)lines_let_through(&limit, 40);
    sleep_ms(350);
    assert_in_range(lines_let_through(&limit, 40), 1, 19);
}

/* As when the configuration is read again. */
static void pace_can_be_changed(void **state)
{
    uint64_t dropped = 0;
    struct log_limit limit = {.dropped = &dropped};

    (void)state;
    assert_int_equal(lines_let_through(&limit, 1), 1); /* 19 are left, of which 5 remain */
    log_limit_pace(&limit, 5);
    assert_int_equal(lines_let_through(&limit, 40), 5);
    assert_int_equal(dropped, 35);
    log_limit_pace(&limit, 60000); /* a line each millisecond */
    sleep_ms(100);
    assert_int_equal(lines_let_through(&limit, 20), 20);
    assert_int_equal(dropped, 35);
}

static void zero_initialised_limit_lets_twenty_through(void **state)
{
    struct log_limit limit = {0};

    (void)state;
    assert_int_equal(lines_let_through(&limit, 100), 20);
}

static void lines_below_the_threshold_take_no_token(void **state)
{
    struct log_limit limit = {.burst = 1, .interval_ms = 60000};

    (void)state;
    log_limited(&limit, LOG_LEVEL_DEBUG, "no");
    log_limited(&limit, LOG_LEVEL_INFO, "yes");
    assert_string_equal(written(), "test: info: yes\n");
}

/* A test that blocks here runs into its time-out. */
static void stuck_reader_loses_lines_and_blocks_no_one(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++)
        log_info("line %d", i);
    (void)written();
    log_info("after");
    const char *last = written();
    assert_non_null(strstr(last, "after ("));
    assert_non_null(strstr(last, " lines lost before this one)\n"));
    log_info("clean");
    assert_string_equal(written(), "test: info: clean\n");
}

static void levels_are_parsed_by_name(void **state)
{
    enum log_level level = LOG_LEVEL_ERROR;

    (void)state;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_int_equal(log_level_parse("warn", &level), -EINVAL);
    assert_int_equal(log_level_parse("", &level), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static void escape_shows_what_is_not_printable(void **state)
{
    char buffer[64];

    (void)state;
    assert_string_equal(log_escape("xvda %s", buffer, sizeof(buffer)), "xvda %s");
    assert_string_equal(log_escape("a\x01\xff\n", buffer, sizeof(buffer)), "a\\x01\\xff\\x0a");
    assert_string_equal(log_escape("", buffer, sizeof(buffer)), "");
}

static void escape_cuts_to_size_and_says_so(void **state)
{
    char buffer[16];

    (void)state;
    assert_string_equal(log_escape("0123456789abcde", buffer, sizeof(buffer)), "0123456789abcde");
    assert_string_equal(log_escape("0123456789abcdef", buffer, sizeof(buffer)), "0123456789ab...");
    assert_string_equal(log_escape("0123456789\x01\x01", buffer, sizeof(buffer)), "0123456789...");
    for (unsigned size = 1; size < sizeof(buffer); size++) {
        memset(buffer, 'Z', sizeof(buffer));
        (void)log_escape("\x01\x02\x03\x04\x05\x06", buffer, size);
        assert_in_range(strlen(buffer), 0, size - 1);
        assert_int_equal(buffer[size], 'Z');
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, catch_stderr, release_stderr)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(line_names_program_and_level),
        TEST(journal_gets_a_priority),
        TEST(lines_below_the_threshold_are_not_written),
        TEST(one_event_is_one_line),
        TEST(long_line_is_cut_and_ends_in_a_newline),
        TEST(errno_is_left_alone),
        TEST(burst_then_silence_then_how_many_were_dropped),
        TEST(pace_is_in_lines_per_minute),
        TEST(pace_can_be_changed),
        TEST(zero_initialised_limit_lets_twenty_through),
        TEST(lines_below_the_threshold_take_no_token),
        TEST(stuck_reader_loses_lines_and_blocks_no_one),
        cmocka_unit_test(levels_are_parsed_by_name),
        cmocka_unit_test(escape_shows_what_is_not_printable),
        cmocka_unit_test(escape_cuts_to_size_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
