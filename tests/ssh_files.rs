//! Files by SSH: sftp, scp of both kinds, rsync, git; through Keyward, by either way, as directly, and with new keys every 5 MB.

use crate::bed::{SshPlan, SshScene, Sshd, openssh10, sshd, sshd10};
use crate::ssh_session::{Row, rekeying, same};

const FILES: &[Row] = &[
    Row {
        name: "sftp",
        script: "seq 1500000 > big; printf 'put big %s/big\\nls -l %s\\nget %s/big back\\nrename %s/big %s/other\\nls -1 %s\\nrm %s/other\\n' \
                 $HOME_THERE $HOME_THERE $HOME_THERE $HOME_THERE $HOME_THERE $HOME_THERE $HOME_THERE | sftp -q -S $PROGRAM -F $CONFIG -b - $HOST \
                 | grep -v -- -rw; cmp big back && md5sum back",
        says: "  back",
    },
    Row {
        name: "sftp of what is not there",
        script: "echo 'get nothing' | sftp -q -S $PROGRAM -F $CONFIG -b - $HOST 2>&1",
        says: "not found",
    },
    Row {
        name: "scp",
        script: "seq 1500000 > big; scp -q -S $PROGRAM -F $CONFIG big $HOST:$HOME_THERE/ && scp -q -S $PROGRAM -F $CONFIG $HOST:$HOME_THERE/big back; cmp big back && md5sum back",
        says: "  back",
    },
    Row {
        name: "scp of the old kind",
        script: "seq 1500000 > big; scp -O -p -q -S $PROGRAM -F $CONFIG big $HOST:$HOME_THERE/ && scp -O -q -S $PROGRAM -F $CONFIG $HOST:$HOME_THERE/big back; cmp big back && md5sum back",
        says: "  back",
    },
    Row {
        name: "scp of a tree",
        script: "mkdir tree; for n in $(seq 40); do seq $((n * 99)) > \"tree/file $n\"; done; scp -rq -S $PROGRAM -F $CONFIG tree $HOST:$HOME_THERE/ && \
                 scp -rq -S $PROGRAM -F $CONFIG $HOST:$HOME_THERE/tree back; diff -r tree back && find back -type f | wc -l",
        says: "40",
    },
    Row { name: "rsync", script: RSYNC, says: "the same twice" },
    Row { name: "git", script: GIT, says: "the same commit" },
];

const RSYNC: &str = "mkdir tree; for n in $(seq 40); do seq $((n * 999)) > \"tree/file $n\"; done; seq 1500000 > tree/big
rsync -a -e \"$SSH\" tree/ $HOST:$HOME_THERE/tree/ && rsync -a --checksum -e \"$SSH\" $HOST:$HOME_THERE/tree/ back/; diff -r tree back && echo the same
echo more >> tree/big; rm 'tree/file 7'; rsync -az --delete -e \"$SSH\" tree/ $HOST:$HOME_THERE/tree/ && rsync -az --delete -e \"$SSH\" $HOST:$HOME_THERE/tree/ back/
diff -r tree back && echo the same twice; rsync -e \"$SSH\" $HOST:$HOME_THERE/nothing . 2>&1 | grep -o 'failed: No such file'";

const GIT: &str = "export GIT_SSH_COMMAND=\"$SSH\" GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git() { command git -c init.defaultBranch=main -c user.name=x -c user.email=x@example.org -c advice.detachedHead=false \"$@\"; }
$SSH $HOST \"git init -q --bare -b main $HOME_THERE/repo.git\"
git init -q one; cd one; for n in $(seq 50); do seq $((n * 3000)) > file-$n; git add .; git commit -qm \"commit $n\"; done
git push -q $HOST:$HOME_THERE/repo.git main && cd .. && git clone -q $HOST:$HOME_THERE/repo.git two && cd two && git log --oneline | wc -l
[ \"$(git rev-parse HEAD)\" = \"$(git -C ../one rev-parse HEAD)\" ] && git rev-parse HEAD && echo the same commit
echo more >> file-1; git commit -qam more; git push -q origin main; cd ../one; git pull -q $HOST:$HOME_THERE/repo.git main; tail -1 file-1
git ls-remote $HOST:$HOME_THERE/repo.git; git clone -q $HOST:$HOME_THERE/nothing.git 2>&1 | grep -c 'does not appear to be a git repository'";

#[test]
fn files_come_and_go_as_they_do_directly() {
    same(&SshScene::new(sshd()), FILES);
}

#[test]
fn files_come_and_go_while_every_end_makes_new_keys() {
    let often = Sshd::own("RekeyLimit 5M");
    same(&SshScene::with(&often, rekeying("")), FILES);
}

#[test]
fn files_come_and_go_with_openssh_10_on_both_ends() {
    let Some((server, program)) = sshd10().zip(openssh10("ssh")) else { return };
    same(&SshScene::with(server, SshPlan { program, ..rekeying("") }), FILES);
}
