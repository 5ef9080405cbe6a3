"""The page's style sheet. Colours of series are Okabe-Ito's, lightened in dark mode."""

from .charts import STYLE as CHARTS

__all__ = ["STYLE"]

STYLE = (
    """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59626e;--paper:#fff;--page:#f4f5f7;--edge:#dfe3e8;
--warm:#fff4e0;--warm-edge:#e69f00;
--accent:#0072b2;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b8568f;--c4:#c98a00;--c5:#3a9ad0;--c6:#6b7280;
--ofa-ink:var(--ink);--ofa-paper:transparent}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e8ebf0;
--soft:#a3acb9;--paper:#1a1f26;--page:#12161b;--edge:#303842;--warm:#33290f;
--accent:#6cbcf0;--c0:#5ab4f0;--c1:#ff8a3d;--c2:#34c79a;--c3:#e39ac4;--c4:#f0b83c;--c5:#a9dcff;--c6:#a3acb9}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}h2{font-size:19px;margin:0 0 4px}
h3{font-size:16px;margin:0 0 2px}
p{margin:0 0 12px}.soft{color:var(--soft)}header p{max-width:80ch}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:14px 0 20px}
nav a{color:var(--accent);text-decoration:none}
nav a:hover{text-decoration:underline}
section{background:var(--paper);border:1px solid var(--edge);border-radius:12px;padding:20px 22px;margin:0 0 18px}
section p.soft{max-width:90ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin:0 0 18px}
.tile{background:var(--paper);border:1px solid var(--edge);border-radius:12px;padding:12px 16px}
.tile b{display:block;white-space:nowrap;font-size:19px;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:22px}
figure{margin:0;min-width:0;max-width:640px}figcaption{font-weight:600;margin:0 0 6px}
.scroll{overflow-x:auto}
.scroll:focus-visible,summary:focus-visible,a:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.chart.sign{display:inline-block;width:24px;height:14px;vertical-align:-2px}
.runs{list-style:none;margin:6px 0 12px;padding:0}.runs li{color:var(--soft)}.runs b{color:var(--ink)}
details{margin:6px 0 12px}summary{cursor:pointer;color:var(--accent);font-size:13px;width:max-content;max-width:100%}
details .scroll{max-height:420px;overflow:auto;margin-top:6px}
.scroll .ofa-net{display:block;max-width:100%;height:auto;min-width:820px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin:4px 0 14px}
th,td{text-align:right;padding:7px 10px;border-bottom:1px solid var(--edge);white-space:nowrap}
thead th{font-weight:600;color:var(--soft);font-size:13px}
details thead th{position:sticky;top:0;background:var(--paper)}
tbody th{font-weight:400;color:inherit}
th:first-child,td:first-child,.left{text-align:left}
td small,th small{color:var(--soft);display:block;font-size:12px}
.words{white-space:normal;min-width:220px}
.numbers{display:flex;flex-wrap:wrap;gap:4px 26px;margin:0 0 10px}
.numbers span{color:var(--soft)}
.numbers b{font-variant-numeric:tabular-nums}
article{border-top:1px solid var(--edge);padding:18px 0 4px}
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--page);
border-radius:5px;padding:1px 5px;overflow-wrap:anywhere}
.empty{border:1px dashed var(--edge);border-radius:8px;padding:14px 16px;margin:6px 0 0;color:var(--soft)}
.problems{background:var(--warm);border-color:var(--warm-edge)}.problems ul{margin:6px 0 0;padding-left:20px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 18px;margin:8px 0 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;min-width:0}
footer{color:var(--soft);font-size:13px}
@media (max-width:900px){.scroll .ofa-net{max-width:none;min-width:0}}
@media (max-width:640px){
figure{overflow-x:auto}.chart:not(.sign){min-width:480px}
main{padding:18px 10px 40px}
section{padding:16px 14px}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}.words{min-width:110px}}
@media print{:root{--page:#fff;--paper:#fff;--ink:#000;--soft:#444;--edge:#bbb}
body{font-size:11px}main{max-width:none;padding:0}nav{display:none}section,.tile{border-radius:0;break-inside:auto}
figure,article,tr,.tile,p{break-inside:avoid}
.pair{grid-template-columns:1fr 1fr}.scroll{overflow:visible}.scroll .ofa-net{min-width:0;max-width:100%}
details:not([open]){display:none}
figure{max-width:480px}h2,h3,section>p,figcaption{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
    + CHARTS
)
