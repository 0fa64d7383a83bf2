/* SPDX-License-Identifier: BSD-2-Clause */
/* blkbackctl's other commands, and its command line, as its user sees them. argv[1]: the program.
 */
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void attach_prints_the_path_or_the_reason(void **state)
{
    (void)state;
    rig_start_broker();
    assert_int_equal(rig_run("attach backend/vbd/3/51712"), 0);
    assert_string_equal(rig_output, "/srv/image\n");
    assert_int_equal(rig_run("attach --timeout 5 backend/vbd/4/51712"), 1);
    assert_string_equal(rig_output, "");
    assert_string_equal(rig_errors, "blkbackctl: /srv/image: in use by domain 5\n");
    assert_int_equal(rig_run("detach backend/vbd/3/51712"), 0);
    assert_int_equal(rig_run("detach backend/vbd/9/51712"), 4);
}

static void sizes_and_media(void **state)
{
    struct connection_file made = rig_connection(3, 51728, "xvdb");

    (void)state;
    rig_start_broker();
    (void)strcpy(made.class_name, "vbd3");
    rig_store(&made);
    assert_int_equal(rig_run("resize 3 xvdb"), 0);
    assert_string_equal(rig_output, "backend/vbd3/3/51728 <> bytes\n");
    assert_int_equal(rig_run("insert 3 xvdb /srv/cd.iso"), 0);
    assert_int_equal(rig_run("insert 3 xvdb refused"), 1);
    assert_string_equal(rig_errors, "blkbackctl: backend/vbd3/3/51728 <refused>\n");
    assert_int_equal(rig_run("eject 3 xvdb"), 0);
    assert_int_equal(rig_run("eject 3 xvdc"), 4);
}

static void daemon_commands(void **state)
{
    (void)state;
    rig_start_broker();
    assert_int_equal(rig_run("ping"), 0);
    assert_string_equal(rig_output, "blkbackd 9.9 is running, pid 4711\n");
    assert_int_equal(rig_run("version"), 0);
    assert_string_equal(rig_output, "blkbackctl " BLKBACKD_VERSION "\nblkbackd 9.9\n");
    assert_int_equal(rig_run("reload"), 1);
    rig_expect_in(rig_errors, "blkbackctl: /etc/x.conf:3: unknown key\n");
}

static void wrong_usage(void **state)
{
    static const char *const wrong[] = {"",
                                        "nonsense",
                                        "--nonsense status",
                                        "status --nonsense",
                                        "status x",
                                        "status 3 xvda x",
                                        "status --interval x",
                                        "status --interval -1",
                                        "attach",
                                        "attach a b",
                                        "attach --timeout x a",
                                        "ping x",
                                        "status 3x",
                                        "status a/b",
                                        "status /",
                                        "status --interval 99999",
                                        "reload now",
                                        "resize 3",
                                        "insert 3 xvda",
                                        "insert 3 xvda ''",
                                        "eject 3",
                                        "status -i 0x10",
                                        "status -i inf"};

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int rc = rig_run(wrong[i]);
        if (rc != 2 || rig_output[0] != '\0' || rig_errors[0] == '\0')
            fail_msg("'%s': %d\n%s%s", wrong[i], rc, rig_output, rig_errors);
    }
    assert_int_equal(rig_run("help"), 0);
    rig_expect_in(rig_output, "usage: blkbackctl");
    assert_int_equal(rig_run("--version"), 0);
    (void)unlink(rig_config);
    assert_int_equal(rig_run("status"), 1);
    rig_expect_in(rig_errors, "blkbackd.conf: No such file or directory\n");
}

static void paths_can_be_given_on_the_command_line(void **state)
{
    struct connection_file made = rig_connection(3, 51712, "xvda");
    char words[2 * TEST_PATH_MAX];

    (void)state;
    rig_store(&made);
    (void)snprintf(words, sizeof(words), "--state-dir '%s' --socket /no/such/socket status -i 0",
                   rig_state_dir);
    test_file_write(rig_config, "", 0);
    assert_int_equal(rig_run(words), 3);
    rig_expect_in(rig_output, "/srv/xvda.img");
    rig_expect_in(rig_errors, "there is no socket at /no/such/socket\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(attach_prints_the_path_or_the_reason),
        RIG_TEST(sizes_and_media),
        RIG_TEST(daemon_commands),
        RIG_TEST(wrong_usage),
        RIG_TEST(paths_can_be_given_on_the_command_line),
    };

    if (argc != 2)
        return 1;
    rig_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
